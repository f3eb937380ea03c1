// Page 05's test: which of three pictures differs? Plain JavaScript, no network, no kernel.
// course/blind.py puts it into the page with its data, and holds the same rules for tests with simulated readers.
(() => {
  "use strict";
  const DATA = __DATA__;
  const { side, kinds, rules } = DATA;
  const bytes = (text) => Uint8Array.from(atob(text), (char) => char.charCodeAt(0));
  const photos = DATA.photos.map(bytes); // RGB, row by row
  const pattern = DATA.pattern; // of the lines, 4 x 4, standard deviation 1

  // ---------------------------------------------------------------- rules, as in blind.py

  function staircase() {
    return { level: rules.start, step: rules.steps[0], streak: 0, turn: 0, wrong: false, answers: [] };
  }

  function answer(stairs, right, shown) {
    stairs.answers.push([shown, right]);
    stairs.streak = right ? stairs.streak + 1 : 0;
    stairs.wrong ||= !right;
    let turn = -1;
    if (right) {
      if (stairs.wrong && stairs.streak < 2) return;
      [turn, stairs.streak] = [1, 0];
    }
    if (turn === -stairs.turn) stairs.step = Math.max(stairs.step / 2, rules.steps[1]);
    stairs.turn = turn;
    stairs.level = Math.min(Math.max(stairs.level + turn * stairs.step, rules.lowest), rules.highest);
  }

  // Threshold in dB: median, low and high end of the interval.
  function threshold(answers) {
    const { grid: [first, last, width], spreads, lapse } = rules;
    const places = [...Array(Math.round((last - first) / width) + 1)].map((_, i) => first + i * width);
    const logs = spreads.map((spread) => places.map((place) => answers.reduce((sum, [shown, right]) => {
      const seen = 1 / (1 + Math.exp((shown - place) / spread));
      const chance = 1 / 3 + (2 / 3 - lapse) * seen;
      return sum + Math.log(right ? chance : 1 - chance);
    }, 0)));
    const top = Math.max(...logs.flat());
    const weights = places.map((_, i) => logs.reduce((sum, row) => sum + Math.exp(row[i] - top), 0));
    const total = weights.reduce((a, b) => a + b);
    const at = (share) => {
      let sum = 0;
      return places[weights.findIndex((weight) => (sum += weight / total) >= share)];
    };
    return [at(0.5), at(0.025), at(0.975)];
  }

  function verdict([, low, high], count) {
    if (count < rules.fewest || (low <= 30 && high >= 30)) return "open";
    return low > 30 ? "seen at 30 dB" : "not seen at 30 dB";
  }

  // ---------------------------------------------------------------- pictures

  const mirrored = (i) => (i < 0 ? -i : i >= side ? 2 * side - 2 - i : i);

  function blurred(pixels, sigma) {
    const reach = Math.min(Math.ceil(4 * sigma), side - 1), taps = [];
    for (let d = -reach; d <= reach; d++) taps.push(Math.exp(-0.5 * (d / sigma) ** 2));
    const sum = taps.reduce((a, b) => a + b);
    let from = Float64Array.from(pixels);
    for (const across of [true, false]) {
      const to = new Float64Array(from.length);
      for (let y = 0; y < side; y++) for (let x = 0; x < side; x++) for (let c = 0; c < 3; c++) {
        let total = 0;
        for (let d = -reach; d <= reach; d++) {
          const [row, column] = across ? [y, mirrored(x + d)] : [mirrored(y + d), x];
          total += taps[d + reach] * from[3 * (row * side + column) + c];
        }
        to[3 * (y * side + x) + c] = total / sum;
      }
      from = to;
    }
    return from;
  }

  // The picture in whole levels, as a screen shows it; strength in levels, for blur sigma in pixels.
  function distort(kind, pixels, strength, noise) {
    const added = {
      brightness: () => 1,
      noise: (i) => noise[i],
      lines: (i) => pattern[4 * (Math.floor(i / 3 / side) % 4) + (Math.floor(i / 3) % side) % 4],
    }[kind];
    const made = kind === "blur" ? blurred(pixels, strength) : Float64Array.from(pixels, (v, i) => v + strength * added(i));
    return Uint8ClampedArray.from(made, Math.round);
  }

  function psnr(a, b) {
    return 20 * Math.log10(255) - 10 * Math.log10(a.reduce((sum, v, i) => sum + (v - b[i]) ** 2, 0) / a.length);
  }

  function tuned(kind, pixels, wanted, noise) {
    let [weak, strong] = kind === "blur" ? [0.2, 12] : [0, 120], picture;
    for (let i = 0; i < 24; i++) {
      const middle = (weak + strong) / 2;
      picture = distort(kind, pixels, middle, noise);
      if (psnr(picture, pixels) > wanted) weak = middle;
      else strong = middle;
    }
    picture = distort(kind, pixels, strong, noise);
    return [picture, psnr(picture, pixels)];
  }

  // ---------------------------------------------------------------- on the page

  function begin(root, seed) {
    let state = seed >>> 0;
    const random = () => { // mulberry32
      state = (state + 0x6d2b79f5) >>> 0;
      let t = Math.imul(state ^ (state >>> 15), state | 1);
      t = (t + Math.imul(t ^ (t >>> 7), t | 61)) ^ t;
      return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
    };
    const below = (n) => Math.floor(n * random());
    const normal = () => Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
    const stairs = Object.fromEntries(kinds.map((kind) => [kind, staircase()]));
    const total = kinds.length * rules.trials;
    let asked = 0, block = [], photo = -1, trial;

    root.innerHTML = `<p class="abx-text" role="status"></p><div class="abx-row"></div>
      <p><button type="button" class="abx-stop">Stop and show my thresholds</button></p>`;
    const [text, row, stop] = ["text", "row", "stop"].map((name) => root.querySelector(`.abx-${name}`));
    const ratio = window.devicePixelRatio || 1, room = (root.clientWidth || 600) / 3 - 16;
    const zoom = Math.max(1, Math.min(3 * ratio, Math.floor((room * ratio) / side))) / ratio;
    const canvases = [1, 2, 3].map((number) => {
      const button = Object.assign(document.createElement("button"), { type: "button" });
      button.setAttribute("aria-label", `Picture ${number} is the odd one`);
      const canvas = Object.assign(document.createElement("canvas"), { width: side, height: side });
      canvas.style.cssText = `width:${zoom * side}px;height:${zoom * side}px;image-rendering:pixelated;display:block`;
      button.append(canvas);
      button.onclick = () => choose(number - 1);
      row.append(button);
      return canvas;
    });
    stop.onclick = show;
    root.onkeydown = ({ key }) => { if ("123".includes(key) && row.isConnected) choose(key - 1); };

    function ask() {
      if (asked === total) return show();
      if (!block.length) block = [...kinds];
      const [kind] = block.splice(below(block.length), 1);
      photo = (photo + 1 + below(photos.length - (photo >= 0))) % photos.length; // another one than before
      const noise = kind === "noise" && Float64Array.from(photos[photo], normal);
      const [picture, shown] = tuned(kind, photos[photo], stairs[kind].level, noise);
      const odd = below(3), pair = below(2) ? [picture, photos[photo]] : [photos[photo], picture];
      canvases.forEach((canvas, i) => draw(canvas, pair[i === odd ? 0 : 1]));
      trial = { kind, shown, odd, photo };
      text.textContent = `Question ${++asked} of ${total}: two of the three are equal. Click on the odd one, or guess.`;
      root.dataset.odd = DATA.open ? odd + 1 : ""; // told to tests alone
    }

    function draw(canvas, rgb) {
      const image = new ImageData(side, side);
      for (let i = 0; i < side * side; i++) image.data.set([...rgb.subarray(3 * i, 3 * i + 3), 255], 4 * i);
      canvas.getContext("2d").putImageData(image, 0, 0);
    }

    function choose(number) {
      answer(stairs[trial.kind], number === trial.odd, trial.shown);
      ask();
    }

    function show() {
      const lines = kinds.map((kind) => {
        const { answers } = stairs[kind], [middle, low, high] = threshold(answers);
        const right = answers.filter(([, good]) => good).length, said = verdict([middle, low, high], answers.length);
        const percent = (x) => `${(100 * (x - rules.grid[0])) / (rules.grid[1] - rules.grid[0])}%`;
        const bar = `<div class="abx-bar"><i style="left:${percent(30)}"></i><b style="left:${percent(low)};right:calc(100% - ${percent(high)})"></b>
          <u style="left:${percent(middle)}"></u></div>`;
        return `<tr><th scope="row">${kind}</th><td>${right} of ${answers.length}</td>
          <td>${answers.length ? `${middle.toFixed(1)} dB [${low.toFixed(1)}, ${high.toFixed(1)}]` : "none"}</td>
          <td>${answers.length ? bar : ""}</td><td>${said}</td></tr>`;
      });
      root.innerHTML = `<table><caption>Your thresholds: up to this PSNR you see the difference in every second try;
        interval of 95 %. The bars run from ${rules.grid[0]} to ${rules.grid[1]} dB, the line is 30 dB.</caption>
        <tr><th scope="col">kind</th><th scope="col">right</th><th scope="col">threshold</th><th scope="col">bar</th>
        <th scope="col">at 30 dB</th></tr>${lines.join("")}</table><p><button type="button">Start again</button></p>`;
      root.querySelector("button").onclick = () => begin(root, Date.now());
      root.dataset.odd = "";
    }
    ask();
  }

  for (const root of document.querySelectorAll(".abx:not([data-ready])")) {
    root.dataset.ready = "yes";
    // else JupyterLab takes Enter and Space
    root.addEventListener("focusin", ({ target }) => { target.dataset.lmSuppressShortcuts = ""; });
    root.rules = { staircase, answer, threshold, verdict, distort, tuned, psnr, photos };
    root.innerHTML = `<p><button type="button">Begin the test</button></p>`;
    root.querySelector("button").onclick = () => begin(root, DATA.seed ?? Date.now());
  }
})();
