// Boxes, masks, labels and keypoints on a canvas.

import { rings } from "./masks.js";

const VISIBLE = 0.5;  // visibility from which a keypoint is drawn
const CROWDED = 40;  // boxes above which labels wider than their box are left out
const OPACITY = 0.45;  // of masks

export const inkOn = color => {
  const [r, g, b] = [1, 3, 5].map(i => (parseInt(color.slice(i, i + 2), 16) / 255) ** 2.2);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b > 0.179 ? "#000" : "#fff";
};

/**
 * Draw detections over what a canvas holds.
 * @param {CanvasRenderingContext2D} paint - of the canvas
 * @param {object[]} detections - the best first, as the server returns them
 * @param {object} model - classes and skeleton, with `colors` and `tints` by class name
 * @param {number} scale - pixels of the canvas in a pixel of the image
 * @param {number} size - of letters, in pixels of the canvas
 * @param {object} [lit] - the detection to emphasize
 */
export function drawDetections(paint, detections, model, scale, size, lit) {
  const line = Math.max(1, size / 7), colors = colorsOf(detections, model), crowded = detections.length > CROWDED;
  paint.font = `${size}px system-ui, sans-serif`;
  paint.textBaseline = "middle";
  paint.lineJoin = "round";
  const large = ({ bbox: [, , w, h] }) => w * h;
  for (const one of detections.filter(one => one.segmentation).sort((a, b) => large(b) - large(a)))
    drawMask(paint, one, colors.get(one), scale, one === lit ? 2 * line : line / 2);
  const draw = (one, width, label) => {
    paint.strokeStyle = paint.fillStyle = colors.get(one);
    paint.lineWidth = width;
    if (one.corners) drawCorners(paint, one.corners, scale);
    else if (!one.segmentation || one === lit) paint.strokeRect(...one.bbox.map(value => value * scale));
    drawKeypoints(paint, one.keypoints ?? [], model.skeleton, scale, width);
    drawLabel(paint, one, colors.get(one), scale, size, line, label);
  };
  for (const one of [...detections].reverse()) draw(one, line, !crowded);
  if (lit && colors.has(lit)) draw(lit, 2 * line, true);
}

/**
 * The colour of each detection: that of its class; where they have masks, one of the tints of its class that its
 * neighbours of the class do not have, as in the annotated copies of `detect predict`.
 */
function colorsOf(detections, model) {
  const colors = new Map(), placed = [];
  for (const one of [...detections].sort((a, b) => a.bbox[0] - b.bbox[0])) {
    const tints = one.segmentation && model.tints.get(one.category), [x, y, w, h] = one.bbox;
    const used = (tints ?? []).map(() => 0);
    for (const { category, bbox: [a, b, c, d], place } of tints ? placed : [])
      if (category === one.category && a < x + w + 2 && x < a + c + 2 && b < y + h + 2 && y < b + d + 2) used[place]++;
    const place = used.indexOf(Math.min(...used));
    if (tints) placed.push({ category: one.category, bbox: one.bbox, place });
    colors.set(one, tints?.[place] ?? model.colors.get(one.category));
  }
  return colors;
}

function drawMask(paint, one, color, scale, line) {
  paint.strokeStyle = paint.fillStyle = color;
  paint.lineWidth = line;
  paint.beginPath();
  for (const ring of rings(one.segmentation)) {
    ring.forEach(([x, y], i) => (i ? paint.lineTo(x * scale, y * scale) : paint.moveTo(x * scale, y * scale)));
    paint.closePath();
  }
  paint.globalAlpha = OPACITY;
  paint.fill("evenodd");
  paint.globalAlpha = 1;
  paint.stroke();
}

function drawCorners(paint, corners, scale) {
  paint.beginPath();
  for (const [x, y] of corners) paint.lineTo(x * scale, y * scale);
  paint.closePath();
  paint.stroke();
}

/** The place that a label hangs from, at the top of what is drawn: the corner of an upright box may be far away. */
function top({ bbox: [x, y], corners, segmentation }) {
  if (corners) {  // the left end of the upper side
    const i = corners.findIndex(one => one[1] === Math.min(...corners.map(([, v]) => v)));
    const [a, b] = [corners[(i + 1) % 4], corners[(i + 3) % 4]], next = a[1] < b[1] ? a : b;
    return [Math.min(corners[i][0], next[0]), corners[i][1]];
  }
  const points = segmentation ? rings(segmentation).flat() : [];
  return points.reduce((best, point) => (point[1] < best[1] ? point : best), points[0] ?? [x, y]);
}

function drawLabel(paint, one, color, scale, size, line, always) {
  const text = `${one.category} ${one.score.toFixed(2)}`, wide = paint.measureText(text).width + size * 0.6;
  if (!always && wide > one.bbox[2] * scale) return;
  const [x, y] = top(one).map(value => value * scale), high = size * 1.35, up = y >= high ? y - high : y;
  const left = Math.max(0, Math.min(x - line / 2, paint.canvas.width - wide));
  paint.fillStyle = color;
  paint.fillRect(left, up, wide, high);
  paint.fillStyle = inkOn(color);
  paint.fillText(text, left + size * 0.3, up + high / 2);
}

function drawKeypoints(paint, flat, skeleton, scale, line) {
  const points = [];
  for (let k = 0; k < flat.length; k += 3) points.push({ x: flat[k] * scale, y: flat[k + 1] * scale, seen: flat[k + 2] >= VISIBLE });
  paint.beginPath();
  for (const [a, b] of skeleton) {
    if (!points[a]?.seen || !points[b]?.seen) continue;
    paint.moveTo(points[a].x, points[a].y);
    paint.lineTo(points[b].x, points[b].y);
  }
  paint.stroke();
  for (const point of points) if (point.seen) paint.fillRect(point.x - line, point.y - line, 2 * line, 2 * line);
}
