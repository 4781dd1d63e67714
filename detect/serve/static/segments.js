// The page of `detect serve` for models of pixels: files, the label map over the image, a legend, downloads.

import { rings } from "./masks.js";
import { Queue, ask } from "./queue.js";

const get = id => document.getElementById(id);
const image = get("image"), canvas = get("boxes");
const hidden = new Set();  // names of the classes that are not ticked
let colors = new Map(), shown = null;

const say = (text, wrong = false) => { get("said").textContent = text; get("said").className = wrong ? "wrong" : ""; };
const queue = new Queue(() => ({ conf: 0, iou: 0 }), changed);
const share = (item, { area }) => `${(100 * area / (item.result.width * item.result.height)).toFixed(1)} %`;

// Files

function add(files) {
  const images = [...files].filter(file => !file.type.startsWith("video/"));
  if (images.length < files.length) say("Videos are not shown here: drop images.", true);
  const added = queue.add(images);
  for (const item of added) if (!item.row) changed(item);
  if (added.length && !shown) select(added[0]);
}

function changed(item) {
  if (!item.row) {
    item.row = document.createElement("li");
    item.row.id = `file-${crypto.getRandomValues(new Uint32Array(1))[0]}`;
    item.row.setAttribute("role", "option");
    item.row.innerHTML = '<span></span><div><div class="name"></div><small></small></div>';
    item.row.querySelector(".name").textContent = item.row.title = item.name;
    item.row.addEventListener("click", () => select(item));
    get("files").append(item.row);
  }
  item.row.className = item.state;
  const done = () => item.detections.map(one => one.category).join(", ") || "background";
  item.row.querySelector("small").textContent =
    { waiting: () => "waiting", sent: () => "processing …", failed: () => item.error, done }[item.state]();
  const failed = queue.items.filter(one => one.state === "failed").length, all = queue.items.length;
  if (all && !queue.waiting) say(`${all} ${all === 1 ? "file" : "files"} processed${failed ? `, ${failed} failed` : ""}.`, failed === all);
  if (item === shown) refresh();
}

function select(item) {
  if (shown?.url) URL.revokeObjectURL(shown.url);
  shown = item;
  for (const one of queue.items) one.row?.setAttribute("aria-selected", one === item);
  if (item) get("files").setAttribute("aria-activedescendant", item.row.id);
  else get("files").removeAttribute("aria-activedescendant");
  get("workplace").hidden = !item;
  image.removeAttribute("src");
  if (item) image.src = item.url = URL.createObjectURL(item.file);
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
  const result = shown?.result, found = result ? [...shown.detections].sort((a, b) => b.area - a.area) : [];
  canvas.width = result?.width ?? 0;
  canvas.height = result?.height ?? 0;
  canvas.style.opacity = get("opacity").value;
  get("opacity").parentElement.querySelector("output").value = Number(get("opacity").value).toFixed(2);
  if (result) paintClasses(shown, canvas.getContext("2d"));
  const text = found.map(one => `${one.category} ${share(shown, one)}`).join(", ") || "no class but the background";
  get("caption").textContent = image.alt = shown ? `${shown.name}: ${shown.error && shown.state === "failed" ? shown.error : result ? text : "waiting"}` : "";
  get("caption").className = shown?.state === "failed" ? "wrong" : "";
  get("save").disabled = get("copy").disabled = !result;
  get("classes").replaceChildren(...found.map(legend));
}

function legend(one) {
  const label = document.createElement("label");
  label.innerHTML = '<input type="checkbox"><span class="swatch"></span><span class="name"></span><span class="number"></span>';
  label.querySelector(".swatch").style.background = colors.get(one.category);
  label.querySelector(".name").textContent = one.category;
  label.querySelector(".number").textContent = share(shown, one);
  const box = label.querySelector("input");
  box.checked = !hidden.has(one.category);
  box.addEventListener("change", () => {
    if (box.checked) hidden.delete(one.category); else hidden.add(one.category);
    canvas.getContext("2d").clearRect(0, 0, canvas.width, canvas.height);
    paintClasses(shown, canvas.getContext("2d"));
  });
  return label;
}

// Downloads

function download(blob, suffix) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = `${shown.name.replace(/\.[^.]*$/, "")}${suffix}.png`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}

get("save").addEventListener("click", () => {
  const bytes = Uint8Array.from(atob(shown.result.label_map), one => one.charCodeAt(0));
  download(new Blob([bytes], { type: "image/png" }), "-labels");
});
get("copy").addEventListener("click", async () => {
  const bitmap = await createImageBitmap(shown.file).catch(() => null);
  if (!bitmap) return say(`the browser cannot read ${shown.name}`, true);
  const copy = Object.assign(document.createElement("canvas"), { width: bitmap.width, height: bitmap.height }), paint = copy.getContext("2d");
  paint.drawImage(bitmap, 0, 0);
  paint.globalAlpha = Number(get("opacity").value);
  paint.drawImage(canvas, 0, 0, copy.width, copy.height);
  return copy.toBlob(blob => download(blob, "-classes"));
});

// Controls

get("opacity").addEventListener("input", refresh);
get("clear").addEventListener("click", () => { queue.clear(); get("files").replaceChildren(); select(null); say(""); });
get("files").addEventListener("keydown", event => {
  const now = queue.items.indexOf(shown), place = { ArrowDown: now + 1, ArrowUp: now - 1 }[event.key];
  if (place === undefined) return;
  event.preventDefault();
  if (queue.items[place]) select(queue.items[place]);
});
get("drop").addEventListener("click", () => get("file").click());
get("file").addEventListener("change", () => { add(get("file").files); get("file").value = ""; });
for (const kind of ["dragover", "dragleave", "drop"]) addEventListener(kind, event => {
  event.preventDefault();
  get("drop").classList.toggle("over", kind === "dragover");
  if (kind === "drop") add(event.dataTransfer.files);
});
addEventListener("paste", event => add(event.clipboardData.files));

try {
  const model = await ask("model");
  colors = new Map(model.classes.map(one => [one.name, one.color]));
  get("model").textContent = `${model.weights}: ${model.classes.length} ${model.classes.length === 1 ? "class" : "classes"}, ${model.imgsz} px`;
} catch (error) {
  say(error.message, true);
}
document.documentElement.dataset.ready = "";  // all of the page works from here on
