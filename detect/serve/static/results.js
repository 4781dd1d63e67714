// Results as files: COCO JSON, YOLO text files in a zip, CSV.
// Each takes images {name, width, height, detections}, and the classes of the model.

import { area, joined, rings } from "./masks.js";

export function toCoco(images, classes) {
  const annotations = [];
  images.forEach((image, i) => {
    for (const one of image.detections) {
      const { category_id, bbox, score, keypoints, corners } = one, outline = one.segmentation ?? (corners && [corners.flat()]);
      annotations.push({
        id: annotations.length + 1, image_id: i + 1, category_id, bbox, area: areaOf(one), iscrowd: 0, score,
        ...(keypoints && { keypoints }), ...(outline && { segmentation: outline }),
      });
    }
  });
  return JSON.stringify({
    images: images.map(({ name, width, height }, i) => ({ id: i + 1, file_name: name, width, height })),
    annotations,
    categories: classes.map(({ id, name }) => ({ id, name })),
  }, null, 1);
}

/** In pixels: of the mask, of the oriented box, or of the box. */
function areaOf({ bbox: [, , w, h], segmentation, corners }) {
  if (segmentation) return area(segmentation);
  const length = ([x, y], [a, b]) => Math.hypot(x - a, y - b);
  return corners ? length(corners[0], corners[1]) * length(corners[1], corners[2]) : w * h;
}

/** A line for each detection; the area of masks, and the corners of oriented boxes, are in columns at the end. */
export function toCsv(images) {
  const quoted = text => (/[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  const all = images.flatMap(image => image.detections), columns = [  // each with what a detection has in it
    ["category", one => [quoted(one.category)]], ["category_id", one => [one.category_id]], ["score", one => [one.score]],
    ["left,top,width,height", one => one.bbox],
  ];
  if (all.some(one => one.segmentation)) columns.push(["area", one => [one.segmentation ? area(one.segmentation) : ""]]);
  if (all.some(one => one.corners)) columns.push(["x1,y1,x2,y2,x3,y3,x4,y4", one => one.corners?.flat() ?? []]);
  const lines = images.flatMap(({ name, detections }) =>
    detections.map(one => [quoted(name), ...columns.flatMap(([, values]) => values(one))].join(",")));
  return [["image", ...columns.map(([title]) => title)].join(","), ...lines, ""].join("\r\n");
}

/** The shape of a row of YOLO's text files: the polygon of a mask, the corners of an oriented box, or [centre, size]. */
function shapeOf({ bbox: [x, y, w, h], segmentation, corners }) {
  return segmentation ? joined(rings(segmentation)) : corners ?? [[x + w / 2, y + h / 2], [w, h]];
}

/** A zip of labels/NAME.txt, with a line "class SHAPE score" for each object, relative to the image; and data.yaml. */
export function toYolo(images, classes) {
  const index = new Map(classes.map(({ id }, i) => [id, i]));
  const files = images.map(({ name, width, height, detections }) => [
    `labels/${name.replace(/\.[^.\/]*$/, "")}.txt`,
    detections.map(one => {
      const numbers = shapeOf(one).flatMap(([x, y]) => [x / width, y / height]).map(value => value.toFixed(6));
      return numbers.length ? `${index.get(one.category_id)} ${numbers.join(" ")} ${one.score.toFixed(5)}\n` : "";
    }).join(""),
  ]);
  return zip([...files, ["data.yaml", `names: ${JSON.stringify(classes.map(({ name }) => name))}\n`]]);
}

const CRC = Uint32Array.from({ length: 256 }, (_, n) => {
  for (let k = 0; k < 8; k++) n = n & 1 ? 0xedb88320 ^ (n >>> 1) : n >>> 1;
  return n;
});

function crc32(bytes) {
  let crc = ~0;
  for (const byte of bytes) crc = CRC[(crc ^ byte) & 255] ^ (crc >>> 8);
  return ~crc >>> 0;
}

/** A zip archive, without compression, of [name, text] pairs. */
function zip(files) {
  const encoder = new TextEncoder(), parts = [], directory = [];
  let offset = 0;
  const numbers = (...pairs) => {  // [size in bytes, value] as in the format, little-endian
    const bytes = new Uint8Array(pairs.reduce((sum, [size]) => sum + size, 0));
    let at = 0;
    for (const [size, value] of pairs) for (let i = 0; i < size; i++) bytes[at++] = value >>> (8 * i);
    return bytes;
  };
  const now = new Date();
  const time = (now.getHours() << 11) | (now.getMinutes() << 5) | (now.getSeconds() >> 1);
  const date = ((now.getFullYear() - 1980) << 9) | ((now.getMonth() + 1) << 5) | now.getDate();
  for (const [name, text] of files) {
    const path = encoder.encode(name), data = encoder.encode(text);
    const about = [[2, 20], [2, 0x800], [2, 0], [2, time], [2, date], [4, crc32(data)], [4, data.length], [4, data.length],
      [2, path.length], [2, 0]];  // 0x800: names are UTF-8
    const head = numbers([4, 0x04034b50], ...about);
    parts.push(head, path, data);
    directory.push(numbers([4, 0x02014b50], [2, 20], ...about, [2, 0], [2, 0], [2, 0], [4, 0], [4, offset]), path);
    offset += head.length + path.length + data.length;
  }
  const size = directory.reduce((sum, part) => sum + part.length, 0);
  const end = numbers([4, 0x06054b50], [4, 0], [2, files.length], [2, files.length], [4, size], [4, offset], [2, 0]);
  return new Blob([...parts, ...directory, end], { type: "application/zip" });
}
