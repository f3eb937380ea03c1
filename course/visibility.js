(rungs) => {
  // A staircase in the reader's browser: two gray squares, one with a grid. One canvas pixel is one screen pixel.
  const box = document.getElementById("sr-staircase"), SIDE = 176, GAP = 24, GRAY = 128;
  box.innerHTML = "<canvas style='display:block;margin:4px 0'></canvas><button>left</button> <button>right</button> "
    + "<button>again</button> <span role='status'></span>";
  const canvas = box.querySelector("canvas"), [left, right, again] = box.querySelectorAll("button");
  const status = box.querySelector("span"), draw = canvas.getContext("2d");
  let rung, side, correct, answers, turns, falling;

  function show() {
    const ratio = window.devicePixelRatio || 1, pattern = rungs[rung][2];
    canvas.width = 2 * SIDE + GAP;
    canvas.height = SIDE;
    canvas.style.width = canvas.width / ratio + "px";
    canvas.style.height = SIDE / ratio + "px";
    canvas.style.imageRendering = "pixelated";
    const mean = Math.round(pattern.flat().reduce((a, b) => a + b) / 16);
    side = Math.random() < 0.5 ? 0 : 1;
    for (const which of [0, 1]) {
      const image = draw.createImageData(SIDE, SIDE);
      const base = GRAY - 3 + Math.floor(7 * Math.random());  // so that brightness does not give the grid away
      for (let i = 0; i < SIDE * SIDE; i++) {
        const y = Math.floor(i / SIDE), x = i % SIDE;
        const value = base + (which === side ? pattern[y % 4][x % 4] - mean : 0);
        image.data.set([value, value, value, 255], 4 * i);
      }
      draw.putImageData(image, which * (SIDE + GAP), 0);
    }
  }

  function start() {
    rung = rungs.length - 1, correct = answers = 0, turns = [], falling = true;
    left.disabled = right.disabled = false;
    status.textContent = "Which square has a grid? No answer, no verdict.";
    show();
  }

  function turn(down) {
    if (down !== falling) turns.push(rung);
    falling = down;
    rung = Math.min(rungs.length - 1, Math.max(0, rung + (down ? -1 : 1)));
  }

  function answer(which) {
    answers += 1;
    const right_answer = which === side, bottom = rung === 0;
    correct = right_answer ? correct + 1 : 0;
    if (!right_answer) turn(false);
    else if (correct === 3) {
      correct = 0;
      if (bottom) return finish("below " + rungs[0][1].toFixed(2));
      turn(true);
    }
    if (turns.length === 6) {
      const last = turns.slice(2).map((i) => Math.log(rungs[i][1]));
      return finish(Math.exp(last.reduce((a, b) => a + b) / last.length).toFixed(2));
    }
    status.textContent = `Answer ${answers + 1}: a grid of ${rungs[rung][1].toFixed(2)} levels (${rungs[rung][0]}).`;
    show();
  }

  function finish(threshold) {
    left.disabled = right.disabled = true;
    status.textContent = `Your threshold here, after ${answers} answers: ${threshold} levels.`;
  }

  left.onclick = () => answer(0);
  right.onclick = () => answer(1);
  again.onclick = start;
  start();
}
