// The page of `detect serve`: files and camera, thresholds, classes, downloads.

import { Camera } from "./camera.js";
import { drawDetections } from "./drawing.js";
import { LOWEST, Queue, ask, send } from "./queue.js";
import { toCoco, toCsv, toYolo } from "./results.js";
import { Viewer, counted } from "./viewer.js";

const get = id => document.getElementById(id);
const hidden = new Set();  // names of the classes that are not ticked
const labels = new Map();  // the check box of each class
const DEFAULT = 0.25;  // confidence threshold where the weights keep none
let model = { classes: [], skeleton: [], colors: new Map(), tints: new Map(), confs: new Map() }, camera = null;

const iou = () => Number(get("iou").value);
const conf = name => (get("own").checked ? model.confs.get(name) : Number(get("conf").value));  // of a class
const lowest = () => (get("own").checked ? Math.min(...model.confs.values()) : conf());
const kept = detections => detections.filter(one => one.score >= conf(one.category) && !hidden.has(one.category));
const say = (text, wrong = false) => { get("said").textContent = text; get("said").className = wrong ? "wrong" : ""; };
const viewer = new Viewer(kept, text => say(text, true));
const queue = new Queue(() => ({ conf: lowest(), iou: iou() }), changed);

// Files

function select(item) {
  if (camera && item) close();
  viewer.show(item);
  for (const one of queue.items) one.row.setAttribute("aria-selected", one === item);
  get("files").setAttribute("aria-activedescendant", item?.row.id ?? "");
  get("workplace").hidden = !item && !camera;
  item?.row.scrollIntoView({ block: "nearest" });
  viewer.refresh();
  counts();
}

function step(by) {
  const item = queue.items[queue.items.indexOf(viewer.item) + by];
  if (item) select(item);
}

function add(files) {
  const first = queue.items.length, added = queue.add(files);
  for (const item of added) update(item);
  if (added.length && (first === 0 || added.length === 1)) select(added[0]);
  else counts();
}

function update(item) {
  if (!item.row) {
    item.row = document.createElement("li");
    item.row.id = `file-${crypto.getRandomValues(new Uint32Array(1))[0]}`;
    item.row.setAttribute("role", "option");
    item.row.setAttribute("aria-selected", "false");
    item.row.innerHTML = '<canvas width="96" height="72" aria-hidden="true"></canvas><div><div class="name"></div><small></small></div>';
    item.row.querySelector(".name").textContent = item.row.title = item.name;
    item.row.addEventListener("click", () => select(item));
    get("files").append(item.row);
  }
  item.row.className = item.state;
  const done = () => counted(kept(item.detections).length, "detection");
  const text = { waiting: () => "waiting", sent: () => "processing …", failed: () => item.error, done }[item.state]();
  item.row.querySelector("small").textContent = text;
}

/** Draw the image, or the frame of the video that is shown, small in the list. */
async function preview(item) {
  if (item.previewed) return;
  item.previewed = true;
  const options = { resizeHeight: 72, resizeQuality: "medium" };
  const small = await createImageBitmap(item.isVideo ? get("video") : item.file, options).catch(() => null);
  if (!small) return;
  const paint = item.row.querySelector("canvas").getContext("2d"), { width, height } = paint.canvas, scale = Math.min(width / small.width, 1);
  paint.drawImage(small, (width - small.width * scale) / 2, (height - small.height * scale) / 2, small.width * scale, small.height * scale);
  small.close();
}

function changed(item) {
  update(item);
  if (item.state === "done" && !item.isVideo) preview(item);
  if (item === viewer.item) {
    if (get("video").error) viewer.fall();
    viewer.refresh();
  }
  counts();
}

/** The queue's progress, and the number of boxes of each class. */
function counts() {
  const all = queue.items.length, left = queue.waiting, failed = queue.items.filter(one => one.state === "failed").length;
  get("queue").hidden = !left;
  get("progress").max = all;
  get("progress").value = all - left;
  get("counted").textContent = `${all - left} of ${counted(all, "file")}`;
  if (all && !left) say(`${counted(all, "file")} processed${failed ? `, ${failed} failed` : ""}.`, failed === all);
  get("before").disabled = queue.items.indexOf(viewer.item) <= 0;
  get("after").disabled = queue.items.indexOf(viewer.item) >= all - 1;
  for (const id of ["coco", "yolo", "csv"]) get(id).disabled = !queue.items.some(one => one.result);
  classes();
}

function classes() {
  const numbers = new Map(), every = camera ? [viewer.present()] : queue.items.map(one => one.detections);
  for (const list of every) for (const one of list) if (one.score >= conf(one.category)) numbers.set(one.category, (numbers.get(one.category) ?? 0) + 1);
  for (const { name } of model.classes) {
    const number = numbers.get(name) ?? 0;
    if (!labels.has(name) && !number) continue;
    if (!labels.has(name)) tick(name);
    const label = labels.get(name);
    label.hidden = !number && !hidden.has(name);
    label.querySelector(".number").textContent = number.toLocaleString("en");
  }
  const sum = [...numbers.values()].reduce((a, b) => a + b, 0);
  get("total").textContent = sum ? counted(sum, "box", "boxes") : "none found so far";
}

/** Add the check box of a class, in the order of the model's classes. */
function tick(name) {
  const label = document.createElement("label"), order = model.classes.map(one => one.name);
  label.innerHTML = '<input type="checkbox" checked><span class="swatch"></span><span class="name"></span><span class="number"></span>';
  label.querySelector(".swatch").style.background = model.colors.get(name);
  label.querySelector(".name").textContent = name;
  label.querySelector("input").addEventListener("change", event => {
    if (event.target.checked) hidden.delete(name); else hidden.add(name);
    filter();
  });
  labels.set(name, label);
  const later = order.slice(order.indexOf(name) + 1).find(one => labels.has(one));
  get("classes").insertBefore(label, labels.get(later) ?? null);
}

function filter() {
  for (const item of queue.items) update(item);
  viewer.refresh();
  classes();
}

async function filesOf(transfer) {
  const entries = [...transfer.items].map(one => one.webkitGetAsEntry?.()).filter(Boolean), found = [];
  if (!entries.some(one => one.isDirectory)) return transfer.files;
  const walk = async entry => {
    if (entry.isFile) return found.push(await new Promise((done, fail) => entry.file(done, fail)));
    for (const reader = entry.createReader(); ;) {
      const some = await new Promise((done, fail) => reader.readEntries(done, fail));
      if (!some.length) return undefined;
      for (const one of some) await walk(one);
    }
  };
  for (const entry of entries) await walk(entry);
  return found.filter(file => /^(image|video)\//.test(file.type));
}

// Camera

async function open() {
  const own = new Camera(get("video"), (frame, signal) => send("image", frame, LOWEST, iou(), signal), (result, seconds) => {
    const before = viewer.live?.seconds ?? seconds;
    viewer.live = { ...result, seconds: 0.9 * before + 0.1 * seconds };
    viewer.refresh();
    classes();
  });
  camera = own;
  select(null);
  viewer.watch(true);
  toggled("Stop the camera", true);
  say("waiting for the camera …");
  try {
    await own.open();
    if (camera === own) say("The newest frame is sent when the answer to the one before has come.");
    await own.run();
  } catch (error) {
    if (error.name !== "AbortError") say(error.message, true);
  }
  if (camera === own) close();
}

function close() {
  camera.close();
  camera = null;
  viewer.watch(false);
  toggled("Use the camera", false);
  if (get("said").className !== "wrong") say("");
  select(queue.items[0] ?? null);
}

function toggled(text, on) {
  get("camera").textContent = text;
  get("camera").setAttribute("aria-pressed", on);
}

// Downloads

function download(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}

/** Every image, and every frame of a video in which something is left, with its detections. */
function results() {
  return queue.items.filter(one => one.result).flatMap(item => {
    const { width, height } = item.result;
    if (!item.isVideo) return [{ name: item.name, width, height, detections: kept(item.detections) }];
    const stem = item.name.replace(/\.[^.]*$/, "");
    return [...item.frames].map(([index, { detections }]) => (
      { name: `${stem}_${String(index).padStart(6, "0")}.jpg`, width, height, detections: kept(detections) }));
  });
}

async function save() {
  const item = viewer.item, stem = item.name.replace(/\.[^.]*$/, "");
  if (item.isVideo) {
    const response = await fetch(`video/${item.result.name}/video.mp4`).catch(() => null);
    if (!response?.ok) return say("the server keeps the last few videos only: drop this one again", true);
    return download(await response.blob(), `${stem}-detections.mp4`);
  }
  const bitmap = await createImageBitmap(item.file).catch(() => null);
  if (!bitmap) return say(`the browser cannot read ${item.name}`, true);
  const copy = Object.assign(document.createElement("canvas"), { width: bitmap.width, height: bitmap.height }), paint = copy.getContext("2d");
  paint.drawImage(bitmap, 0, 0);
  drawDetections(paint, kept(item.detections), model, 1, Math.max(12, Math.round((copy.width + copy.height) / 90)));
  return copy.toBlob(blob => download(blob, `${stem}-detections.png`));
}

const json = text => new Blob([text], { type: "application/json" });
get("coco").addEventListener("click", () => download(json(toCoco(results(), model.classes)), "detections.json"));
get("yolo").addEventListener("click", () => download(toYolo(results(), model.classes), "labels.zip"));
get("csv").addEventListener("click", () => download(new Blob([toCsv(results())], { type: "text/csv" }), "detections.csv"));
get("save").addEventListener("click", save);

// Controls

for (const id of ["conf", "iou"]) {
  const slider = get(id), show = () => { slider.parentElement.querySelector("output").value = Number(slider.value).toFixed(2); };
  slider.addEventListener("input", show);
  show();
}
get("conf").addEventListener("input", filter);
get("own").addEventListener("input", () => { get("conf").disabled = get("own").checked; filter(); });
for (const id of ["conf", "own"]) get(id).addEventListener("change", () => queue.again(one => one.isVideo && one.state !== "waiting" && lowest() < one.asked));
get("iou").addEventListener("change", () => queue.again(one => one.state !== "failed"));
for (const [id, keep] of [["all", true], ["none", false]]) get(id).addEventListener("click", () => {
  for (const [name, label] of labels) {
    label.querySelector("input").checked = keep;
    if (keep) hidden.delete(name); else hidden.add(name);
  }
  filter();
});
get("stop").addEventListener("click", () => queue.stop());
get("clear").addEventListener("click", () => {
  queue.clear();
  get("files").replaceChildren();
  select(null);
  counts();
  say("");
});
get("video").addEventListener("loadeddata", () => { if (viewer.item?.isVideo) preview(viewer.item); });
get("before").addEventListener("click", () => step(-1));
get("after").addEventListener("click", () => step(1));
get("camera").addEventListener("click", () => { if (camera) close(); else open(); });
get("files").addEventListener("keydown", event => {
  const last = queue.items.length - 1, now = queue.items.indexOf(viewer.item);
  const place = { ArrowDown: now + 1, ArrowUp: now - 1, Home: 0, End: last, PageDown: now + 8, PageUp: now - 8 }[event.key];
  if (place === undefined) return;
  event.preventDefault();
  if (last >= 0) select(queue.items[Math.max(0, Math.min(last, place))]);
});
addEventListener("keydown", event => {
  if (event.target.closest("input, video, select, [role=listbox]") || event.altKey || event.ctrlKey || event.metaKey) return;
  if (event.key === "ArrowRight") step(1);
  if (event.key === "ArrowLeft") step(-1);
});
get("drop").addEventListener("click", () => get("file").click());
get("file").addEventListener("change", () => { add(get("file").files); get("file").value = ""; });
for (const kind of ["dragover", "dragleave", "drop"]) addEventListener(kind, async event => {
  event.preventDefault();
  get("drop").classList.toggle("over", kind === "dragover");
  if (kind === "drop") add(await filesOf(event.dataTransfer));
});
addEventListener("paste", event => add(event.clipboardData.files));

try {
  model = await ask("model");
  model.colors = new Map(model.classes.map(one => [one.name, one.color]));
  model.tints = new Map(model.classes.map(one => [one.name, one.tints]));
  model.confs = new Map(model.classes.map(one => [one.name, one.conf]));
  viewer.model = model;
  get("own").checked = get("conf").disabled = [...model.confs.values()].some(value => value !== DEFAULT);
  get("own-label").hidden = !get("own").checked;
  get("model").textContent = `${model.weights}: ${counted(model.classes.length, "class", "classes")}, ${model.imgsz} px`;
} catch (error) {
  say(error.message, true);
}
document.documentElement.dataset.ready = "";  // all of the page works from here on
