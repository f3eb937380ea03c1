// The page `try`: takes a photo, hands its tiles to workers, and shows what comes back.
// The workers' text, the network and the bundled photos are in DATA, which demo/build.py writes.
"use strict";

const SCALE = 4;
const TILE = 64; // side in pixels of the photo
const MARGIN = DATA.layers.length; // the network sees one pixel more to each side with each layer
const LARGEST = 4e6; // pixels of a photo, so that sixteen times as many fit a canvas
const LONGEST = 4000; // side
const METHODS = ["bicubic", "network"];
const ENDS = [[0, 114, 178], [213, 94, 0]]; // of the colour scale for a grid, below and above the mean

const $ = (id) => document.getElementById(`try-${id}`);
const floats = (text) => new Float32Array(Uint8Array.from(atob(text), (char) => char.charCodeAt(0)).buffer);
const layers = DATA.layers.map((layer) => ({ ...layer, taps: floats(layer.taps), bias: floats(layer.bias) }));
const workerURL = URL.createObjectURL(new Blob([DATA.worker], { type: "text/javascript" }));
const canvases = Object.fromEntries(METHODS.map((method) => [method, $(method)]));

let photo; // the chosen one: its name and its pixels
let turn = 0; // counts them, for a photo may be read faster than the one before it
let workers = [];

// ---------------------------------------------------------------- a photo in

async function open(name, url) {
  stop();
  const own = ++turn, image = new Image();
  image.src = url;
  try {
    await image.decode();
  } catch {
    return say(`${name} is no picture that this browser can read.`);
  }
  if (own !== turn) return;
  const { naturalWidth: width, naturalHeight: height } = image;
  if (width * height > SCALE ** 2 * LARGEST || Math.max(width, height) > SCALE * LONGEST)
    return say(`${name} is too large for this page: ${width} × ${height} pixels.`);
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.fillStyle = "white"; // below what is transparent
  context.fillRect(0, 0, width, height);
  context.drawImage(image, 0, 0);
  const { data: pixels } = context.getImageData(0, 0, width, height);
  photo = { name: name.replace(/\.[^.]*$/, ""), width, height, pixels };
  await enlarge();
}

async function openFile(file) {
  for (const button of $("photos").children) button.ariaPressed = "false";
  $("shrink").checked = false;
  $("credit").textContent = "";
  const url = URL.createObjectURL(file);
  await open(file.name, url);
  URL.revokeObjectURL(url);
}

// RGBA of a part of a picture.
function cut({ pixels, width }, left, top, right, bottom) {
  const part = new Uint8ClampedArray(4 * (right - left) * (bottom - top));
  for (let y = top, at = 0; y < bottom; y++, at += 4 * (right - left))
    part.set(pixels.subarray(4 * (y * width + left), 4 * (y * width + right)), at);
  return part;
}

// ---------------------------------------------------------------- through the network

function stop() {
  for (const worker of workers) worker.terminate();
  workers = [];
  $("busy").hidden = true;
  $("save").disabled = true;
}

function hire() {
  const worker = new Worker(workerURL);
  worker.onerror = ({ message }) => {
    stop();
    say(`This browser could not compute it: ${message}`);
  };
  workers.push(worker);
  return worker;
}

async function enlarge() {
  stop();
  let lr = photo, hr = null;
  const large = photo.width * photo.height > LARGEST || Math.max(photo.width, photo.height) > LONGEST;
  if (large) $("shrink").checked = true;
  if ($("shrink").checked && Math.min(photo.width, photo.height) >= SCALE) {
    const [width, height] = [photo.width, photo.height].map((side) => side - (side % SCALE));
    hr = { width, height, pixels: cut(photo, 0, 0, width, height) };
    say(`Shrinking ${photo.name} ...`);
    $("busy").hidden = false;
    $("progress").removeAttribute("value");
    const pixels = await new Promise((done) => {
      const worker = hire();
      worker.onmessage = ({ data }) => done(data.lr);
      worker.postMessage({ task: "shrink", ...hr });
    });
    stop();
    lr = { width: width / SCALE, height: height / SCALE, pixels };
  }
  if (!prepare(lr)) return say(`This browser has no room for ${SCALE * lr.width} × ${SCALE * lr.height} pixels.`);
  run(lr, hr, large ? " It is large: it was taken as the original." : "");
}

function run(lr, hr, note) {
  const todo = tiles(lr), count = todo.length, began = performance.now();
  const sums = Object.fromEntries(METHODS.map((method) => [method, { squares: 0, phases: new Float64Array(16) }]));
  let done = 0;
  const next = (worker) => todo.length && worker.postMessage({ task: "tile", ...todo.shift()() });
  const took = ({ data }) => {
    for (const method of METHODS) {
      const part = new ImageData(data[method], SCALE * (data.right - data.left));
      canvases[method].getContext("2d").putImageData(part, SCALE * data.left, SCALE * data.top);
      measure(part, hr, SCALE * data.left, SCALE * data.top, sums[method]);
    }
    $("progress").value = ++done / count;
    if (done < count) return;
    const seconds = (performance.now() - began) / 1000, number = workers.length;
    stop();
    say(`From ${size(lr)} to ${size(canvases.network)} pixels in ${seconds.toFixed(1)} s, by ${number} `
      + `worker${number > 1 ? "s" : ""}.${note}`);
    report(sums, 16 * lr.width * lr.height, hr);
  };
  $("busy").hidden = false;
  $("progress").value = 0;
  say(`Enlarging ${photo.name}, ${size(lr)} pixels ...${note}`);
  for (let i = Math.min(navigator.hardwareConcurrency || 2, 8, count); i > 0; i--) {
    const worker = hire();
    worker.onmessage = (message) => {
      next(worker);
      took(message);
    };
    worker.postMessage({ task: "start", layers, side: TILE, width: lr.width, height: lr.height });
    next(worker);
  }
}

// The tiles of a photo with what the network sees around them, from its middle outwards; each is cut when its turn
// comes.
function tiles(lr) {
  const found = [];
  for (let top = 0; top < lr.height; top += TILE)
    for (let left = 0; left < lr.width; left += TILE) {
      const right = Math.min(left + TILE, lr.width), bottom = Math.min(top + TILE, lr.height);
      const x = Math.max(left - MARGIN, 0), y = Math.max(top - MARGIN, 0);
      const end = Math.min(right + MARGIN, lr.width);
      const task = () => ({
        left, top, right, bottom, x, y, columns: end - x,
        pixels: cut(lr, x, y, end, Math.min(bottom + MARGIN, lr.height)),
      });
      task.far = Math.hypot(left + right - lr.width, top + bottom - lr.height);
      found.push(task);
    }
  return found.sort((a, b) => a.far - b.far);
}

// ---------------------------------------------------------------- what comes out, in numbers

// The squared differences from the original, and the sum of each phase less the original's.
function measure({ data, width, height }, hr, left, top, sums) {
  for (let y = 0, p = 0; y < height; y++) {
    let q = hr ? 4 * ((top + y) * hr.width + left) : 0;
    for (let x = 0; x < width; x++, p += 4, q += 4) {
      const phase = (y % SCALE) * SCALE + (x % SCALE);
      for (let c = 0; c < 3; c++) {
        const difference = data[p + c] - (hr ? hr.pixels[q + c] : 0);
        sums.squares += difference ** 2;
        sums.phases[phase] += difference;
      }
    }
  }
}

// PSNR, and srlib's phase_pattern, drawn.
function report(sums, pixels, hr) {
  const patterns = METHODS.map((method) => {
    const means = Array.from(sums[method].phases, (sum) => sum / (3 * pixels / 16));
    const mean = means.reduce((a, b) => a + b) / 16;
    return means.map((value) => value - mean);
  });
  const most = Math.max(0.1, ...patterns.flat().map(Math.abs));
  METHODS.forEach((method, i) => {
    const decibel = 10 * Math.log10(255 ** 2 / (sums[method].squares / (3 * pixels)));
    $(`psnr-${method}`).textContent = hr ? `${decibel.toFixed(2)} dB` : "no original";
    const levels = Math.hypot(...patterns[i]) / 4;
    $(`levels-${method}`).textContent = `${levels.toFixed(2)} levels`;
    const context = $(`grid-${method}`).getContext("2d"), image = new ImageData(SCALE, SCALE);
    patterns[i].forEach((value, phase) => {
      const share = Math.abs(value) / most, end = ENDS[+(value > 0)];
      image.data.set([...end.map((level) => 255 + share * (level - 255)), 255], 4 * phase);
    });
    context.putImageData(image, 0, 0);
  });
  $("scale").textContent = most.toFixed(2);
  $("save").disabled = false;
}

// ---------------------------------------------------------------- what comes out, to see

// Both canvases at their size, with the browser's own enlargement until the tiles come. Whether they have the room.
function prepare({ width, height, pixels }) {
  const small = Object.assign(document.createElement("canvas"), { width, height });
  small.getContext("2d").putImageData(new ImageData(pixels, width, height), 0, 0);
  for (const canvas of Object.values(canvases)) {
    Object.assign(canvas, { width: SCALE * width, height: SCALE * height });
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(small, 0, 0, SCALE * width, SCALE * height);
    if (!context.getImageData(SCALE * width - 1, SCALE * height - 1, 1, 1).data[3]) return false;
  }
  for (const cell of document.querySelectorAll("#try td.try-number")) cell.textContent = "";
  for (const method of METHODS) $(`grid-${method}`).getContext("2d").clearRect(0, 0, SCALE, SCALE);
  const room = $("compare").parentElement.clientWidth;
  $("zoom").value = [4, 2, 1].find((zoom) => zoom * SCALE * width <= room) ?? 1;
  zoom();
  const frame = $("frame");
  frame.scrollTo((frame.scrollWidth - frame.clientWidth) / 2, (frame.scrollHeight - frame.clientHeight) / 2);
  return true;
}

function zoom() {
  const times = $("zoom").value, canvas = canvases.bicubic;
  $("compare").style.width = times === "fit" ? "100%" : "";
  for (const each of Object.values(canvases)) {
    each.style.width = times === "fit" ? "100%" : `${times * canvas.width}px`;
    each.style.imageRendering = times === "fit" ? "auto" : "pixelated";
  }
  split();
}

// The network's picture covers what lies right of the slider.
function split() {
  const frame = $("frame"), share = $("split").value / 100;
  const edge = frame.scrollLeft + share * frame.clientWidth;
  canvases.network.style.clipPath = `inset(0 0 0 ${edge}px)`;
  $("line").style.left = `${edge - 1}px`;
  $("split").ariaValueText = `${$("split").value} % bicubic, the rest small`;
  frame.classList.toggle("whole", frame.scrollWidth <= frame.clientWidth);
}

function drag(event) {
  const frame = $("frame"), box = frame.getBoundingClientRect();
  if (!event.buttons || (event.pointerType !== "mouse" && !frame.classList.contains("whole"))) return;
  $("split").value = (100 * (event.clientX - box.left)) / frame.clientWidth;
  split();
}

function save() {
  canvases.network.toBlob((blob) => {
    const url = URL.createObjectURL(blob);
    Object.assign(document.createElement("a"), { href: url, download: `${photo.name}_x4.png` }).click();
    setTimeout(() => URL.revokeObjectURL(url), 60_000);
  });
}

function say(text) {
  $("status").textContent = text;
}

function size({ width, height }) {
  return `${width} × ${height}`;
}

// ---------------------------------------------------------------- controls

for (const { name, alt, credit, url } of DATA.photos) {
  const button = Object.assign(document.createElement("button"), { type: "button", title: credit });
  button.append(Object.assign(new Image(), { src: url, alt }));
  button.onclick = () => {
    for (const other of $("photos").children) other.ariaPressed = `${other === button}`;
    $("shrink").checked = true;
    $("file").value = "";
    $("credit").textContent = `${alt} (${credit}).`;
    open(name, url);
  };
  $("photos").append(button);
}
$("file").onchange = ({ target }) => target.files.length && openFile(target.files[0]);
addEventListener("dragover", (event) => event.preventDefault());
addEventListener("drop", (event) => {
  event.preventDefault();
  $("file").value = "";
  if (event.dataTransfer.files.length) openFile(event.dataTransfer.files[0]);
});
$("shrink").onchange = () => photo && enlarge();
$("stop").onclick = () => {
  stop();
  say("Stopped.");
};
$("zoom").onchange = zoom;
$("split").oninput = split;
$("frame").onscroll = split;
$("frame").onpointerdown = $("frame").onpointermove = drag;
$("save").onclick = save;
addEventListener("resize", split);
$("photos").firstElementChild.click();
