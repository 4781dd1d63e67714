// The page of `detect serve` for models of pixels: files, the label map over the image, a legend, downloads.

import { FileList, canvasOf, classBox, counted, download, get, receive, say } from "./page.js";
import { rings } from "./masks.js";
import { Queue, ask } from "./queue.js";

const image = get("image"), canvas = get("boxes");
const hidden = new Set();  // names of the classes that are not ticked
let colors = new Map();

const queue = new Queue(() => ({ conf: 0, iou: 0 }), changed);
const list = new FileList(queue, selected);
const share = (item, { area }) => `${(100 * area / (item.result.width * item.result.height)).toFixed(1)} %`;

// Files

function add(files) {
  const images = [...files].filter(file => !file.type.startsWith("video/"));
  if (images.length < files.length) say("Videos are not shown here: drop images.", true);
  const added = queue.add(images);
  for (const item of added) changed(item);
  if (added.length && !list.item) list.select(added[0]);
}

function changed(item) {
  list.update(item, () => item.detections.map(one => one.category).join(", ") || "background");
  if (item.state === "done") list.preview(item, item.file);
  list.summary();
  if (item === list.item) refresh();
}

function selected(item) {
  if (image.src) URL.revokeObjectURL(image.src);
  get("workplace").hidden = !item;
  image.removeAttribute("src");
  if (item) image.src = URL.createObjectURL(item.file);
  refresh();
}

// The label map

/** Draw the ticked classes of an item on a canvas of the size of its image. */
function paintClasses(item, paint) {
  for (const one of item.detections.filter(({ category }) => !hidden.has(category))) {
    paint.fillStyle = colors.get(one.category);
    paint.beginPath();
    for (const ring of rings(one.segmentation)) {
      ring.forEach(([x, y], i) => (i ? paint.lineTo(x, y) : paint.moveTo(x, y)));
      paint.closePath();
    }
    paint.fill("evenodd");
  }
}

function refresh() {
  const shown = list.item, result = shown?.result, found = result ? [...shown.detections].sort((a, b) => b.area - a.area) : [];
  canvas.width = result?.width ?? 0;
  canvas.height = result?.height ?? 0;
  canvas.style.opacity = get("opacity").value;
  get("opacity").parentElement.querySelector("output").value = Number(get("opacity").value).toFixed(2);
  if (result) paintClasses(shown, canvas.getContext("2d"));
  const text = found.map(one => `${one.category} ${share(shown, one)}`).join(", ") || "no class but the background";
  get("caption").textContent = image.alt = shown ? `${shown.name}: ${shown.state === "failed" ? shown.error : result ? text : "waiting"}` : "";
  get("caption").className = shown?.state === "failed" ? "wrong" : "";
  get("save").disabled = get("copy").disabled = !result;
  get("classes").replaceChildren(...found.map(legend));
}

function legend(one) {
  const label = classBox(one.category, colors.get(one.category), ticked => {
    if (ticked) hidden.delete(one.category); else hidden.add(one.category);
    canvas.getContext("2d").clearRect(0, 0, canvas.width, canvas.height);
    paintClasses(list.item, canvas.getContext("2d"));
  });
  label.querySelector("input").checked = !hidden.has(one.category);
  label.querySelector(".number").textContent = share(list.item, one);
  return label;
}

// Downloads

const named = suffix => `${list.item.name.replace(/\.[^.]*$/, "")}${suffix}.png`;

get("save").addEventListener("click", () => {
  const bytes = Uint8Array.from(atob(list.item.result.label_map), one => one.charCodeAt(0));
  download(new Blob([bytes], { type: "image/png" }), named("-labels"));
});
get("copy").addEventListener("click", async () => {
  const name = named("-classes"), copy = await canvasOf(list.item.file);
  if (!copy) return say(`the browser cannot read ${list.item.name}`, true);
  const paint = copy.getContext("2d");
  paint.globalAlpha = Number(get("opacity").value);
  paint.drawImage(canvas, 0, 0, copy.width, copy.height);
  return copy.toBlob(blob => download(blob, name));
});

// Controls

get("opacity").addEventListener("input", refresh);
receive(add);

try {
  const model = await ask("model");
  colors = new Map(model.classes.map(one => [one.name, one.color]));
  get("model").textContent = `${model.weights}: ${counted(model.classes.length, "class", "classes")}, ${model.imgsz} px`;
} catch (error) {
  say(error.message, true);
}
document.documentElement.dataset.ready = "";  // all of the page works from here on
