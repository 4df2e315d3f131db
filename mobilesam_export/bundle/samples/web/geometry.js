// Pixels and coordinates: an image to the encoder's input, a prompt to the decoder's slots, logits
// to a mask. Pure functions; `input` is {width, height} of the encoder's input, W and H.

import { MobileSAMError } from "./errors.js";

const FILL = [124, 116, 104]; // of the padding: the bytes nearest to the model's mean
const FOREGROUND = 1;
const TOP_LEFT = 2;
const BOTTOM_RIGHT = 3;
const EMPTY = -1;
const PRECISION = 22; // bits of a filter's coefficients, as in Pillow

/** Width and height of an image as large as the input holds, rounded half up. */
export function resizedSize(width, height, input) {
  const factor = Math.min(input.width / width, input.height / height);
  return [width, height].map((length) => Math.max(1, Math.floor(length * factor + 0.5)));
}

/**
 * The encoder's input: as large as it holds, antialiased bilinear, top left, the rest filled.
 * @param {Uint8ClampedArray} rgba of width * height pixels.
 * @returns {Uint8Array} H * W * 3, RGB.
 */
export function preprocess(rgba, width, height, input) {
  const [columns, rows] = resizedSize(width, height, input);
  const horizontal = resampledRows(rgba, width, height, 4, columns);
  const resized = resampledColumns(horizontal, columns, height, rows);
  const padded = new Uint8Array(input.width * input.height * 3);
  for (let i = 0; i < padded.length; i++) padded[i] = FILL[i % 3];
  for (let y = 0; y < rows; y++) {
    padded.set(resized.subarray(y * columns * 3, (y + 1) * columns * 3), y * input.width * 3);
  }
  return padded;
}

/** Pillow's triangle filter: for each output pixel its first input pixel and its coefficients. */
function filter(length, count) {
  const scale = length / count;
  const support = Math.max(scale, 1);
  return Array.from({ length: count }, (_, i) => {
    const center = (i + 0.5) * scale;
    const first = Math.max(0, Math.trunc(center - support + 0.5));
    const end = Math.min(length, Math.trunc(center + support + 0.5));
    const weights = [];
    for (let x = first; x < end; x++) {
      weights.push(Math.max(0, 1 - Math.abs((x - center + 0.5) / support)));
    }
    const sum = weights.reduce((a, b) => a + b, 0);
    return {
      first,
      weights: Int32Array.from(weights, (w) => Math.trunc((w / sum) * 2 ** PRECISION + 0.5)),
    };
  });
}

function resampledRows(source, width, height, channels, count) {
  const taps = filter(width, count);
  const result = new Uint8ClampedArray(count * height * 3);
  for (let y = 0, out = 0; y < height; y++) {
    for (let i = 0; i < count; i++) {
      const { first, weights } = taps[i];
      let r = 2 ** (PRECISION - 1);
      let g = r;
      let b = r;
      for (let k = 0, at = (y * width + first) * channels; k < weights.length; k++) {
        r += source[at] * weights[k];
        g += source[at + 1] * weights[k];
        b += source[at + 2] * weights[k];
        at += channels;
      }
      result[out++] = r >> PRECISION;
      result[out++] = g >> PRECISION;
      result[out++] = b >> PRECISION;
    }
  }
  return result;
}

function resampledColumns(source, width, height, count) {
  const taps = filter(height, count);
  const stride = width * 3;
  const result = new Uint8ClampedArray(stride * count);
  const sums = new Int32Array(stride);
  for (let i = 0; i < count; i++) {
    const { first, weights } = taps[i];
    sums.fill(2 ** (PRECISION - 1));
    for (let k = 0; k < weights.length; k++) {
      const at = (first + k) * stride;
      for (let x = 0; x < stride; x++) sums[x] += source[at + x] * weights[k];
    }
    for (let x = 0; x < stride; x++) result[i * stride + x] = sums[x] >> PRECISION;
  }
  return result;
}

/**
 * A prompt in the decoder's slots.
 * @param {import("./mobilesam.js").Prompt} prompt in pixels of the image.
 * @returns {{coords: Float32Array, labels: Float32Array}} of N * 2 and N.
 * @throws {MobileSAMError} it is empty, outside the image, or takes too many slots.
 */
export function slots(prompt, width, height, input, count) {
  const filled = (prompt.points ?? []).map(({ x, y, label = FOREGROUND }) => [x, y, label]);
  if (prompt.box) {
    const [x0, y0, x1, y1] = prompt.box;
    if (!(x0 < x1 && y0 < y1)) {
      throw new MobileSAMError("bad-prompt", "That box is empty: drag from one corner to the other.");
    }
    filled.push([x0, y0, TOP_LEFT], [x1, y1, BOTTOM_RIGHT]);
  }
  check(filled, prompt, width, height, count);
  const [columns, rows] = resizedSize(width, height, input);
  const coords = new Float32Array(count * 2);
  const labels = new Float32Array(count).fill(EMPTY);
  filled.forEach(([x, y, label], slot) => {
    coords.set([(x * columns) / width, (y * rows) / height], slot * 2);
    labels[slot] = label;
  });
  return { coords, labels };
}

function check(filled, prompt, width, height, count) {
  if (!filled.length && !prompt.previousMask) {
    throw new MobileSAMError("bad-prompt", "Nothing to segment: click on something, or drag a box.");
  }
  if (filled.length > count) {
    const text = `This model takes ${count} points, a box counting as two: undo one first.`;
    throw new MobileSAMError("too-many-points", text);
  }
  for (const [x, y] of filled) {
    if (!(x >= 0 && x <= width && y >= 0 && y <= height)) {
      const where = `${Math.round(x)}, ${Math.round(y)}`;
      const text = `${where} is outside the image, which is ${width} x ${height}.`;
      throw new MobileSAMError("outside", text);
    }
  }
}

/** Which of the four masks to show: for one click the best of 1..3, otherwise 0. */
export function chosenMask(prompt, scores) {
  if ((prompt.points ?? []).length !== 1 || prompt.box) return 0;
  return [1, 2, 3].reduce((best, i) => (scores[i] > scores[best] ? i : best));
}

/**
 * (H/4, W/4) logits to a mask of the image's size, by way of H x W without the padding.
 * @returns {Uint8Array} width * height, 1 inside the mask.
 */
export function upscaledMask(logits, width, height, input) {
  const [columns, rows] = resizedSize(width, height, input);
  const low = input.width / 4;
  const padded = bilinear(logits, low, input.height / 4, low, input.width, input.height);
  const mask = new Uint8Array(width * height);
  bilinear(padded, columns, rows, input.width, width, height, (row, y) => {
    for (let x = 0; x < width; x++) mask[y * width + x] = row[x] > 0 ? 1 : 0;
  });
  return mask;
}

/** Centers of pixels at .5, no antialiasing, as PyTorch's interpolate; row by row to `take`. */
function bilinear(values, width, height, stride, columns, rows, take = null) {
  const result = take ? null : new Float32Array(columns * rows);
  const across = places(width, columns);
  const down = places(height, rows);
  const row = new Float32Array(columns);
  const narrow = new Float32Array(width);
  for (let y = 0; y < rows; y++) {
    const top = down.first[y] * stride;
    const bottom = Math.min(down.first[y] + 1, height - 1) * stride;
    for (let x = 0; x < width; x++) {
      narrow[x] = values[top + x] + (values[bottom + x] - values[top + x]) * down.share[y];
    }
    for (let x = 0; x < columns; x++) {
      const left = across.first[x];
      const right = Math.min(left + 1, width - 1);
      row[x] = narrow[left] + (narrow[right] - narrow[left]) * across.share[x];
    }
    if (take) take(row, y);
    else result.set(row, y * columns);
  }
  return result;
}

function places(length, count) {
  const first = new Int32Array(count);
  const share = new Float32Array(count);
  for (let i = 0; i < count; i++) {
    const at = Math.min(Math.max(((i + 0.5) * length) / count - 0.5, 0), length - 1);
    first[i] = Math.floor(at);
    share[i] = at - first[i];
  }
  return { first, share };
}
