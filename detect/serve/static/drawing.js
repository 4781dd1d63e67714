// Boxes, labels and keypoints on a canvas.

const VISIBLE = 0.5;  // visibility from which a keypoint is drawn
const CROWDED = 40;  // boxes above which labels wider than their box are left out

export const inkOn = color => {
  const [r, g, b] = [1, 3, 5].map(i => (parseInt(color.slice(i, i + 2), 16) / 255) ** 2.2);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b > 0.179 ? "#000" : "#fff";
};

/**
 * Draw detections over what a canvas holds.
 * @param {CanvasRenderingContext2D} paint - of the canvas
 * @param {object[]} detections - the best first, as the server returns them
 * @param {object} model - classes and skeleton, with `colors` by class name
 * @param {number} scale - pixels of the canvas in a pixel of the image
 * @param {number} size - of letters, in pixels of the canvas
 * @param {object} [lit] - the detection to emphasize
 */
export function drawDetections(paint, detections, model, scale, size, lit) {
  const line = Math.max(1, size / 7);
  paint.font = `${size}px system-ui, sans-serif`;
  paint.textBaseline = "middle";
  for (const one of [...detections].reverse()) drawOne(paint, one, model, scale, size, line, detections.length > CROWDED);
  if (lit) {
    drawOne(paint, lit, model, scale, size, 2 * line, false);
  }
}

function drawOne(paint, one, model, scale, size, line, crowded) {
  const [x, y, w, h] = one.bbox.map(value => value * scale), color = model.colors.get(one.category);
  const text = `${one.category} ${one.score.toFixed(2)}`, wide = paint.measureText(text).width + size * 0.6;
  paint.strokeStyle = paint.fillStyle = color;
  paint.lineWidth = line;
  paint.strokeRect(x, y, w, h);
  drawKeypoints(paint, one.keypoints ?? [], model.skeleton, scale, line);
  if (crowded && wide > w) return;
  const high = size * 1.35, top = y >= high ? y - high : y, left = Math.max(0, Math.min(x - line / 2, paint.canvas.width - wide));
  paint.fillRect(left, top, wide, high);
  paint.fillStyle = inkOn(color);
  paint.fillText(text, left + size * 0.3, top + high / 2);
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
