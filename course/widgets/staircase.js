// data: {rungs: [{name, size in levels, pattern: 4 rows of 4 whole levels}], faintest first}
// Two gray squares, one with a grid. Three right answers make it fainter, a wrong one stronger.
const draw = (root, data) => {
  const SIDE = 176, GAP = 24, GRAY = 128, rungs = data.rungs;
  const squares = make("canvas", { width: 2 * SIDE + GAP, height: SIDE, role: "img", "aria-label": "two squares" });
  const [left, right, again] = ["left", "right", "again"].map((text) => make("button", {}, text));
  const says = make("p", { "aria-live": "polite" });
  root.replaceChildren(squares, make("div", {}, left, " ", right, " ", again), says);
  const pen = squares.getContext("2d", { willReadFrequently: true });
  let rung, side, streak, answers, turns, falling;

  const show = (text) => {
    const ratio = window.devicePixelRatio || 1; // one pixel of the squares is one of the screen
    squares.style = `display:block;image-rendering:pixelated;width:${(2 * SIDE + GAP) / ratio}px`;
    side = Math.random() < 0.5 ? 0 : 1;
    for (const which of [0, 1]) {
      const image = pen.createImageData(SIDE, SIDE), pattern = rungs[rung].pattern;
      const mean = Math.round(pattern.flat().reduce((a, b) => a + b) / 16);
      const base = GRAY - 3 + Math.floor(7 * Math.random()); // so that brightness does not give the grid away
      for (let i = 0; i < SIDE * SIDE; i++) {
        const value = base + (which === side ? pattern[Math.floor(i / SIDE) % 4][i % 4] - mean : 0);
        image.data.set([value, value, value, 255], 4 * i);
      }
      pen.putImageData(image, which * (SIDE + GAP), 0);
    }
    says.textContent = text;
  };
  const start = () => {
    [rung, streak, answers, turns, falling] = [rungs.length - 1, 0, 0, [], true];
    left.disabled = right.disabled = false;
    show("Which square has a grid? No answer, no verdict.");
  };
  const finish = (size) => {
    left.disabled = right.disabled = true;
    says.textContent = `Your threshold here, after ${answers} answers: ${size} levels`;
  };
  const turn = (down) => {
    if (down !== falling) turns.push(Math.log(rungs[rung].size));
    falling = down;
    rung = Math.min(rungs.length - 1, Math.max(0, rung + (down ? -1 : 1)));
  };
  const answer = (which) => {
    answers += 1;
    streak = which === side ? streak + 1 : 0;
    if (streak === 3 && rung === 0) return finish(`below ${rungs[0].size.toFixed(2)}`);
    if (streak === 0) turn(false);
    if (streak === 3) { streak = 0; turn(true); }
    if (turns.length === 6) return finish(Math.exp(turns.slice(2).reduce((a, b) => a + b) / 4).toFixed(2));
    show(`Answer ${answers + 1}: a grid of ${rungs[rung].size.toFixed(2)} levels, ${rungs[rung].name}`);
  };
  left.onclick = () => answer(0);
  right.onclick = () => answer(1);
  again.onclick = start;
  start();
};
