// The page of `detect serve`: files and camera, thresholds, classes, downloads.

import { Camera } from "./camera.js";
import { drawDetections } from "./drawing.js";
import { FileList, canvasOf, classBox, counted, download, get, receive, say } from "./page.js";
import { LOWEST, Queue, ask, send } from "./queue.js";
import { toCoco, toCsv, toYolo } from "./results.js";
import { Viewer } from "./viewer.js";

const hidden = new Set();  // names of the classes that are not ticked
const labels = new Map();  // the check box of each class
const DEFAULT = 0.25;  // confidence threshold where the weights keep none
let model = { classes: [], skeleton: [], colors: new Map(), tints: new Map(), confs: new Map() }, camera = null;

const iou = () => Number(get("iou").value);
const conf = name => (get("own").checked ? model.confs.get(name) : Number(get("conf").value));  // of a class
const lowest = () => (get("own").checked ? Math.min(...model.confs.values()) : conf());
const kept = detections => detections.filter(one => one.score >= conf(one.category) && !hidden.has(one.category));
const viewer = new Viewer(kept, text => say(text, true));
const queue = new Queue(() => ({ conf: lowest(), iou: iou() }), changed);
const list = new FileList(queue, selected);

// Files

function selected(item) {
  if (camera && item) close();
  viewer.show(item);
  get("workplace").hidden = !item && !camera;
  viewer.refresh();
  counts();
}

function add(files) {
  const first = queue.items.length, added = queue.add(files);
  for (const item of added) update(item);
  if (added.length && (first === 0 || added.length === 1)) list.select(added[0]);
  else counts();
}

function update(item) {
  list.update(item, () => counted(kept(item.detections).length, "detection"));
}

function changed(item) {
  update(item);
  if (item.state === "done" && !item.isVideo) list.preview(item, item.file);
  if (item === viewer.item) {
    if (get("video").error) viewer.fall();
    viewer.refresh();
  }
  counts();
}

/** The queue's progress, and the number of boxes of each class. */
function counts() {
  const all = queue.items.length, left = queue.waiting;
  get("queue").hidden = !left;
  get("progress").max = all;
  get("progress").value = all - left;
  get("counted").textContent = `${all - left} of ${counted(all, "file")}`;
  list.summary();
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
  const order = model.classes.map(one => one.name);
  const label = classBox(name, model.colors.get(name), ticked => {
    if (ticked) hidden.delete(name); else hidden.add(name);
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

// Camera

async function open() {
  const own = new Camera(get("video"), (frame, signal) => send("image", frame, LOWEST, iou(), signal), (result, seconds) => {
    const before = viewer.live?.seconds ?? seconds;
    viewer.live = { ...result, seconds: 0.9 * before + 0.1 * seconds };
    viewer.refresh();
    classes();
  });
  camera = own;
  list.select(null);
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
  list.select(queue.items[0] ?? null);
}

function toggled(text, on) {
  get("camera").textContent = text;
  get("camera").setAttribute("aria-pressed", on);
}

// Downloads

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
  const copy = await canvasOf(item.file);
  if (!copy) return say(`the browser cannot read ${item.name}`, true);
  drawDetections(copy.getContext("2d"), kept(item.detections), model, 1, Math.max(12, Math.round((copy.width + copy.height) / 90)));
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
get("video").addEventListener("loadeddata", () => { if (viewer.item?.isVideo) list.preview(viewer.item, get("video")); });
get("before").addEventListener("click", () => list.step(-1));
get("after").addEventListener("click", () => list.step(1));
get("camera").addEventListener("click", () => { if (camera) close(); else open(); });
addEventListener("keydown", event => {
  if (event.target.closest("input, video, select, [role=listbox]") || event.altKey || event.ctrlKey || event.metaKey) return;
  if (event.key === "ArrowRight") list.step(1);
  if (event.key === "ArrowLeft") list.step(-1);
});
receive(add);

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
