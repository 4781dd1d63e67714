// Masks: COCO's run-length encoding (RLE) as polygons along the edges of pixels.

const STEPS = [[1, 0], [0, 1], [-1, 0], [0, -1]];  // right, down, left, up
const traced = new WeakMap();  // the rings of each segmentation

/** The lengths of the runs of a compressed RLE, column by column, the first of them outside. */
function runs(counts) {
  const lengths = [];
  for (let at = 0; at < counts.length;) {
    let value = 0, shift = 0, code;
    do {
      code = counts.charCodeAt(at++) - 48;
      value |= (code & 31) << shift;
      shift += 5;
    } while (code & 32);
    if (code & 16) value |= -1 << shift;
    lengths.push(lengths.length > 2 ? value + lengths[lengths.length - 2] : value);
  }
  return lengths;
}

/** The number of pixels of a mask. */
export const area = ({ counts }) => runs(counts).reduce((sum, length, i) => sum + (i % 2) * length, 0);

/** The borders [[x, y], ...] of a mask, its parts clockwise and its holes the other way around, the longest first. */
export function rings(segmentation) {
  if (!traced.has(segmentation)) traced.set(segmentation, trace(segmentation));
  return traced.get(segmentation);
}

function trace({ size: [height], counts }) {
  const lengths = runs(counts), spans = [];
  let place = 0, low = Infinity, high = 0;
  lengths.forEach((length, i) => {
    for (let from = place, end = place + length; i % 2 && from < end;) {  // cut where a column ends
      const x = Math.floor(from / height), to = Math.min(end, (x + 1) * height);
      spans.push([x, from - x * height, to - x * height]);
      low = Math.min(low, from - x * height);
      high = Math.max(high, to - x * height);
      from = to;
    }
    place += length;
  });
  if (!spans.length) return [];
  const left = spans[0][0], w = spans[spans.length - 1][0] - left + 1, h = high - low;
  const inside = new Uint8Array((w + 2) * (h + 2));  // with a border outside
  for (const [x, from, to] of spans) for (let y = from; y < to; y++) inside[(y - low + 1) * (w + 2) + x - left + 1] = 1;
  const paths = follow(inside, w + 2, h + 2).map(path => path.map(([x, y]) => [x + left - 1, y + low - 1]));
  return paths.sort((a, b) => b.length - a.length);
}

/** The paths around what is inside, with it on their right hand; two pixels that share a corner alone are apart. */
function follow(inside, w, h) {
  const ways = new Uint8Array(w * h), paths = [];  // the steps, as bits, that leave the upper left corner of each pixel
  for (let i = w; i < w * h; i++) {
    if (inside[i] && !inside[i - w]) ways[i] |= 1;
    if (!inside[i] && inside[i - 1]) ways[i] |= 2;
    if (!inside[i] && inside[i - w]) ways[i + 1] |= 4;
    if (inside[i] && !inside[i - 1]) ways[i + w] |= 8;
  }
  for (let start = 0; start < w * h; start++) while (ways[start]) {
    const path = [];
    let at = start, step = 31 - Math.clz32(ways[start] & -ways[start]), before = -1;
    do {
      if (step !== before) path.push([at % w, Math.floor(at / w)]);
      ways[at] &= ~(1 << step);
      at += STEPS[step][0] + w * STEPS[step][1];
      before = step;
      step = [1, 0, 3].map(turn => (before + turn) % 4).find(one => ways[at] & (1 << one));
    } while (step !== undefined && at !== start);
    paths.push(path);
  }
  return paths;
}

/** Several rings as one, which covers the same by the even-odd rule: the ways between them have no width. */
export function joined([first = [], ...others]) {
  let path = first;
  for (const ring of others) {
    let least = Infinity, place = 0, start = 0;
    path.forEach(([x, y], i) => ring.forEach(([a, b], j) => {
      const gap = (x - a) ** 2 + (y - b) ** 2;
      if (gap < least) [least, place, start] = [gap, i, j];
    }));
    const around = [...ring.slice(start), ...ring.slice(0, start)];
    path = [...path.slice(0, place + 1), ...around, around[0], ...path.slice(place)];
  }
  return path;
}
