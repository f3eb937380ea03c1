// The network `small`, tile by tile, and the bicubic interpolation below it: srlib/models and srlib/images/degrade.py
// once more, for a browser. Pictures lie in memory row by row, the channels of a pixel side by side.
"use strict";

const SCALE = 4;

// The weights that resample one axis, as in srlib's resize_matrix: for each new pixel the first source pixel and
// the weights from there on.
function taps(size, newSize) {
  const scale = size / newSize, stretch = Math.max(scale, 1), found = [];
  for (let i = 0; i < newSize; i++) {
    const centre = (i + 0.5) * scale - 0.5;
    const first = Math.max(0, Math.ceil(centre - 2 * stretch));
    const last = Math.min(size - 1, Math.floor(centre + 2 * stretch));
    const weights = new Float64Array(last - first + 1);
    for (let j = first; j <= last; j++) {
      const x = Math.abs(j - centre) / stretch;
      weights[j - first] = x < 1 ? (1.5 * x - 2.5) * x * x + 1 : x < 2 ? ((2.5 - 0.5 * x) * x - 4) * x + 2 : 0;
    }
    const sum = weights.reduce((a, b) => a + b);
    found.push({ first, weights: weights.map((weight) => weight / sum) });
  }
  return found;
}

// Rows and columns of a picture resampled, RGB. `source` has `step` channels a pixel, `stride` pixels a row, and
// begins at the pixel (top, left) of the picture that the taps speak of.
function resample(source, step, stride, top, left, rows, columns) {
  const from = columns[0].first, end = columns.at(-1), to = end.first + end.weights.length;
  const row = new Float64Array(3 * (to - from)), output = new Float32Array(3 * rows.length * columns.length);
  let at = 0;
  for (const { first, weights } of rows) {
    row.fill(0);
    weights.forEach((weight, i) => {
      let p = ((first + i - top) * stride + from - left) * step;
      for (let q = 0; q < row.length; q += 3, p += step)
        for (let c = 0; c < 3; c++) row[q + c] += weight * source[p + c];
    });
    for (const { first, weights } of columns) {
      for (let c = 0; c < 3; c++, at++) {
        let sum = 0;
        for (let i = 0, q = 3 * (first - from) + c; i < weights.length; i++, q += 3) sum += weights[i] * row[q];
        output[at] = sum;
      }
    }
  }
  return output;
}

// A 3x3 convolution of the pixels inside `area`, written to `y`, or added to what is there. Two pixels and four
// channels at a time: eight sums fit a processor's registers.
function convolve(x, y, stride, area, { inputs, outputs, taps, bias }, { relu = false, add = false } = {}) {
  for (let row = area.top; row < area.bottom; row++)
    for (let column = area.left; column < area.right; column += 2)
      for (let o = 0; o < outputs; o += 4) {
        let a0 = bias[o], a1 = bias[o + 1], a2 = bias[o + 2], a3 = bias[o + 3];
        let b0 = a0, b1 = a1, b2 = a2, b3 = a3;
        for (let dy = -1, w = 9 * inputs * o; dy <= 1; dy++) {
          let p = ((row + dy) * stride + column - 1) * inputs;
          for (const end = p + 3 * inputs; p < end; p++, w += 4) {
            const a = x[p], b = x[p + inputs], w0 = taps[w], w1 = taps[w + 1], w2 = taps[w + 2], w3 = taps[w + 3];
            a0 += a * w0; a1 += a * w1; a2 += a * w2; a3 += a * w3;
            b0 += b * w0; b1 += b * w1; b2 += b * w2; b3 += b * w3;
          }
        }
        const sums = [a0, a1, a2, a3, b0, b1, b2, b3], pixels = column + 1 < area.right ? 2 : 1;
        for (let pixel = 0; pixel < pixels; pixel++)
          for (let k = 0, q = (row * stride + column + pixel) * outputs + o; k < 4; k++, q++) {
            const sum = sums[4 * pixel + k] + (add ? y[q] : 0);
            y[q] = relu && sum < 0 ? 0 : sum;
          }
      }
}

// A tile with all that the network can see around it: as many pixels as it has layers. What lies outside the photo
// stays zero in every layer, as in one pass over the whole photo.
class Tile {
  constructor(layers, side) {
    this.layers = layers;
    this.margin = layers.length;
    this.stride = side + 2 * this.margin + 2;
    const buffer = (channels) => new Float32Array(this.stride ** 2 * channels);
    const width = layers[0].outputs;
    Object.assign(this, { lr: buffer(3), a: buffer(width), b: buffer(width), head: buffer(layers.at(-1).outputs) });
  }

  // `pixels`: RGBA of the photo's part from (y, x) on, `columns` wide, which holds the tile and its margin.
  enlarge({ pixels, columns, x, y, left, top, right, bottom, photo }) {
    const { lr, a, b, head, stride, margin } = this;
    const [first, ...blocks] = this.layers, last = blocks.pop();
    const originX = left - margin, originY = top - margin;
    const area = (reach) => ({
      left: Math.max(left - reach, 0) - originX,
      right: Math.min(right + reach, photo.width) - originX,
      top: Math.max(top - reach, 0) - originY,
      bottom: Math.min(bottom + reach, photo.height) - originY,
    });
    for (const each of [lr, a, b]) each.fill(0);
    for (let p = 0, q; p < pixels.length / 4; p++) {
      q = ((Math.floor(p / columns) + y - originY) * stride + (p % columns) + x - originX) * 3;
      for (let c = 0; c < 3; c++) lr[q + c] = pixels[4 * p + c] / 255;
    }
    let reach = margin;
    convolve(lr, a, stride, area(--reach), first, { relu: true });
    for (let i = 0; i < blocks.length; i += 2) {
      convolve(a, b, stride, area(--reach), blocks[i], { relu: true });
      convolve(b, a, stride, area(--reach), blocks[i + 1], { add: true });
    }
    convolve(a, head, stride, area(--reach), last);

    const rows = photo.rows.slice(SCALE * top, SCALE * bottom);
    const across = photo.columns.slice(SCALE * left, SCALE * right);
    const skip = resample(lr, 3, stride, originY, originX, rows, across);
    const bicubic = new Uint8ClampedArray(4 * rows.length * across.length).fill(255), network = bicubic.slice();
    for (let row = 0, p = 0; row < rows.length; row++)
      for (let column = 0; column < across.length; column++, p++) {
        const pixel = ((row >> 2) + margin) * stride + (column >> 2) + margin;
        const phase = (row & 3) * SCALE + (column & 3);
        for (let c = 0; c < 3; c++) {
          const value = skip[3 * p + c];
          bicubic[4 * p + c] = 255 * value; // clamped and rounded
          network[4 * p + c] = 255 * (value + head[48 * pixel + 16 * c + phase]);
        }
      }
    return { bicubic, network };
  }
}

let tile, photo;
const tasks = {
  start({ layers, side, width, height }) {
    tile = new Tile(layers, side);
    photo = { width, height, rows: taps(height, SCALE * height), columns: taps(width, SCALE * width) };
  },
  tile(task) {
    const { bicubic, network } = tile.enlarge({ ...task, photo });
    postMessage({ ...task, pixels: null, bicubic, network }, [bicubic.buffer, network.buffer]);
  },
  // The LR photo of an original whose sides are multiples of 4: srlib's degrade by "bicubic", rounded.
  shrink({ pixels, width, height }) {
    const rows = taps(height, height / SCALE), columns = taps(width, width / SCALE);
    const small = resample(pixels, 4, width, 0, 0, rows, columns);
    const lr = new Uint8ClampedArray(4 * rows.length * columns.length).fill(255);
    for (let p = 0; p < rows.length * columns.length; p++)
      for (let c = 0; c < 3; c++) lr[4 * p + c] = small[3 * p + c];
    postMessage({ lr }, [lr.buffer]);
  },
};
onmessage = ({ data }) => tasks[data.task](data);
