// Prints what an exported detector finds in an image: node detect.js MODEL.onnx IMAGE [DRAWN.png]
// The model was written by `detect export --nms`; a line is a class, its score and x1 y1 x2 y2 in pixels, and of a model
// with masks the number of pixels of the object. Masks are drawn on a copy of the image, if a file for it is named.

import { readFileSync } from 'node:fs';
import { InferenceSession, Tensor } from 'onnxruntime-node';
import sharp from 'sharp';

// The value of a key among the metadata of an ONNX file, which is a protobuf message: field 14 holds key and value.
function metadata(bytes, wanted) {
  let at = 0;
  const varint = () => {
    let value = 0;
    for (let factor = 1; ; factor *= 128) {
      const byte = bytes[at++];
      value += (byte & 127) * factor;
      if (byte < 128) return value;
    }
  };
  const text = () => {
    varint(); // the field: 1 is the key, 2 the value
    const length = varint();
    return bytes.toString('utf8', at, (at += length));
  };
  while (at < bytes.length) {
    const field = varint();
    const number = varint();
    if ((field & 7) !== 2) continue; // a number, and no bytes of that length
    const end = at + number;
    if (field >> 3 === 14 && text() === wanted) return JSON.parse(text());
    at = end;
  }
  throw new Error('the model was not written by detect export');
}

// Half to even, as Python rounds.
const round = (x) => (Math.abs(x % 1) === 0.5 ? 2 * Math.round(x / 2) : Math.round(x));

// Where an image lies on its canvas.
function letterbox(height, width, { metadata, square, stride }) {
  const { size, preprocess } = metadata;
  const ratio = Math.min(size / height, size / width);
  const side = (n) => (preprocess.stretch ? size : Math.max(1, round(n * ratio)));
  const room = (n) => (square || preprocess.stretch ? size : Math.ceil(n / stride) * stride);
  const free = (n) => (preprocess.alignment === 'center' ? Math.floor((room(n) - n) / 2) : 0);
  const [h, w] = [side(height), side(width)];
  return { h, w, canvasH: room(h), canvasW: room(w), top: free(h), left: free(w), scaleX: w / width, scaleY: h / height };
}

// For each of `count` pixels along a side the source pixels it is made of, with their weights: the area it covers where
// the image becomes less than half as large, else the two nearest.
function taps(length, count, area) {
  const step = length / count;
  return Array.from({ length: count }, (_, i) => {
    if (area) {
      const [start, end] = [i * step, Math.min((i + 1) * step, length)];
      const covered = (j) => (Math.min(j + 1, end) - Math.max(j, start)) / (end - start);
      const first = Math.floor(start);
      return Array.from({ length: Math.ceil(end - 1e-9) - first }, (_, k) => [first + k, covered(first + k)]);
    }
    const place = (i + 0.5) * step - 0.5;
    const part = place - Math.floor(place);
    const inside = (j) => Math.min(Math.max(j, 0), length - 1);
    return [[inside(Math.floor(place)), 1 - part], [inside(Math.floor(place) + 1), part]];
  });
}

// The canvas (3, H, W) of an image (h, w, 3).
function canvas(data, height, width, fit, pad) {
  const area = 2 * fit.w < width || 2 * fit.h < height;
  const [rows, columns] = [taps(height, fit.h, area), taps(width, fit.w, area)];
  const plane = fit.canvasH * fit.canvasW;
  const out = new Uint8Array(3 * plane).fill(pad);
  const row = new Float32Array(3 * width);
  rows.forEach((sources, y) => {
    row.fill(0);
    for (const [source, weight] of sources) {
      for (let i = 0; i < row.length; i++) row[i] += weight * data[3 * width * source + i];
    }
    columns.forEach((columnSources, x) => {
      for (let c = 0; c < 3; c++) {
        let value = 0;
        for (const [source, weight] of columnSources) value += weight * row[3 * source + c];
        out[c * plane + (fit.top + y) * fit.canvasW + fit.left + x] = Math.round(value);
      }
    });
  });
  return out;
}

// Pixels of the image along a side as places between the cells of a map, of which the first has its centre at 0.
function places(start, end, scale, offset, canvas, cells) {
  const stride = 2 ** Math.round(Math.log2(canvas / cells));
  return Array.from({ length: end - start }, (_, i) => {
    const place = Math.min(Math.max(((start + i + 0.5) * scale + offset) / stride - 0.5, 0), cells - 1);
    const low = Math.floor(place);
    return [low, Math.min(low + 1, cells - 1), place - low];
  });
}

// Colours the pixels of an object, and counts them: the sum of the prototypes (k, height, width), weighted by the
// coefficients of the object, is above 0 there.
function drawMask(data, width, coefficients, prototypes, rows, columns, top, left, color) {
  const mapWidth = prototypes.dims[3];
  const area = prototypes.dims[2] * mapWidth;
  const logits = new Float32Array(area);
  coefficients.forEach((coefficient, i) => {
    for (let j = 0; j < area; j++) logits[j] += coefficient * prototypes.data[i * area + j];
  });
  let count = 0;
  rows.forEach(([above, below, v], i) => {
    columns.forEach(([before, after, u], j) => {
      const across = (row) => (1 - u) * logits[row * mapWidth + before] + u * logits[row * mapWidth + after];
      if ((1 - v) * across(above) + v * across(below) <= 0) return;
      const pixel = 3 * ((top + i) * width + left + j);
      for (let c = 0; c < 3; c++) data[pixel + c] = (data[pixel + c] + 255 * ((color >> c) & 1)) / 2;
      count += 1;
    });
  });
  return count;
}

const [modelFile, pictureFile, drawnFile] = process.argv.slice(2);
const about = metadata(readFileSync(modelFile), 'gridhead');
if (!about.suppressed) throw new Error('export the model with --nms');
const { data, info } = await sharp(pictureFile).rotate().removeAlpha().toColourspace('srgb').raw().toBuffer({ resolveWithObject: true });
const fit = letterbox(info.height, info.width, about);
const pixels = canvas(data, info.height, info.width, fit, about.metadata.preprocess.pad);
const session = await InferenceSession.create(modelFile);
const { found, prototypes } = await session.run({ images: new Tensor('uint8', pixels, [1, 3, fit.canvasH, fit.canvasW]) });
const columns = found.dims[1];
const within = (x, most) => Math.min(Math.max(x, 0), most);
for (let i = 0; i < found.dims[0]; i++) {
  const [, x1, y1, x2, y2, score, label] = found.data.subarray(i * columns, (i + 1) * columns);
  const xs = [x1, x2].map((x) => within((x - fit.left) / fit.scaleX, info.width));
  const ys = [y1, y2].map((y) => within((y - fit.top) / fit.scaleY, info.height));
  const box = [xs[0], ys[0], xs[1], ys[1]].map((v) => v.toFixed(2));
  const pixelsOfMask = [];
  if (prototypes) {
    const [left, right, top, bottom] = [...xs, ...ys].map(round);
    const [, , mapHeight, mapWidth] = prototypes.dims;
    const rows = places(top, bottom, fit.scaleY, fit.top, fit.canvasH, mapHeight);
    const across = places(left, right, fit.scaleX, fit.left, fit.canvasW, mapWidth);
    const coefficients = found.data.subarray(i * columns + 7, (i + 1) * columns);
    pixelsOfMask.push(drawMask(data, info.width, coefficients, prototypes, rows, across, top, left, 1 + (i % 6)));
  }
  console.log(about.metadata.names[label], score.toFixed(4), ...box, ...pixelsOfMask);
}
if (drawnFile) {
  const raw = { width: info.width, height: info.height, channels: 3 };
  await sharp(data, { raw }).toFile(drawnFile);
}
