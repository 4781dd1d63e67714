// Results as files: COCO JSON, YOLO text files in a zip, CSV.
// Each takes images {name, width, height, detections}, and the classes of the model.

export function toCoco(images, classes) {
  const annotations = [];
  images.forEach((image, i) => {
    for (const { category_id, bbox, score, keypoints } of image.detections)
      annotations.push({
        id: annotations.length + 1, image_id: i + 1, category_id, bbox, area: bbox[2] * bbox[3], iscrowd: 0, score,
        ...(keypoints && { keypoints }),
      });
  });
  return JSON.stringify({
    images: images.map(({ name, width, height }, i) => ({ id: i + 1, file_name: name, width, height })),
    annotations,
    categories: classes.map(({ id, name }) => ({ id, name })),
  }, null, 1);
}

export function toCsv(images) {
  const quoted = text => (/[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  const lines = images.flatMap(({ name, detections }) =>
    detections.map(one => [quoted(name), quoted(one.category), one.category_id, one.score, ...one.bbox].join(",")));
  return ["image,category,category_id,score,left,top,width,height", ...lines, ""].join("\r\n");
}

/** A zip of labels/NAME.txt, with a line "class x y w h score" for each box, relative to the image; and data.yaml. */
export function toYolo(images, classes) {
  const index = new Map(classes.map(({ id }, i) => [id, i]));
  const files = images.map(({ name, width, height, detections }) => [
    `labels/${name.replace(/\.[^.\/]*$/, "")}.txt`,
    detections.map(({ category_id, bbox: [x, y, w, h], score }) => {
      const numbers = [(x + w / 2) / width, (y + h / 2) / height, w / width, h / height];
      return `${index.get(category_id)} ${numbers.map(value => value.toFixed(6)).join(" ")} ${score.toFixed(5)}\n`;
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
