// The image, video or camera that is shown, its boxes, and its detections in words and as a table.

import { drawDetections } from "./drawing.js";
import { counted, get } from "./page.js";

const ROWS = 300;  // of the table
const HIGHEST = 0.74, LARGEST = 4;  // share of the window's height that an image may have; how far a small one is enlarged
const [image, video, canvas] = ["image", "video", "boxes"].map(get);

export class Viewer {
  /**
   * @param {(detections: object[]) => object[]} kept - what the thresholds and ticked classes leave
   * @param {(text: string) => void} complain - shows an error
   */
  constructor(kept, complain) {
    Object.assign(this, { kept, complain, item: null, live: null, hasCamera: false, lit: null });
    this.model = { classes: [], skeleton: [], colors: new Map(), tints: new Map() };
    const fitted = () => { this.fit(); this.draw(); };
    for (const kind of ["load", "error"]) image.addEventListener(kind, fitted);
    for (const kind of ["loadedmetadata", "resize", "seeked"]) video.addEventListener(kind, fitted);
    image.addEventListener("error", () => { if (this.item?.state === "done") complain("the browser cannot show this format: the boxes are in the table"); });
    video.addEventListener("error", () => this.fall());
    const follow = (_, frame) => {
      if (this.item?.isVideo) this.item.seen = frame.mediaTime;
      if (this.item?.isVideo) this.draw();
      video.requestVideoFrameCallback(follow);
    };
    if (video.requestVideoFrameCallback) video.requestVideoFrameCallback(follow);
    else video.addEventListener("timeupdate", () => this.draw());
    new ResizeObserver(fitted).observe(get("room"));
    get("rows").addEventListener("toggle", () => this.table());
  }

  /** Show the file of an item, or nothing. */
  show(item) {
    if (this.item?.url) URL.revokeObjectURL(this.item.url);
    Object.assign(this, { item, lit: null });
    image.hidden = video.hidden = true;
    image.removeAttribute("src");
    video.removeAttribute("src");
    video.load();
    if (!item) return;
    const media = item.isVideo ? video : image;
    media.src = item.url = URL.createObjectURL(item.file);
    media.hidden = false;
  }

  /** Show the camera, which `camera.js` opens; `live` then holds the last result. */
  watch(on) {
    this.hasCamera = on;
    this.live = null;
    video.hidden = !on;
    video.controls = !on;
  }

  /** Show the server's annotated copy of a video in a format that only the server reads. */
  fall() {
    if (this.item?.isVideo && this.item.result && video.currentSrc.startsWith("blob:")) video.src = `video/${this.item.result.name}/video.mp4`;
  }

  /** The width and height of what is shown, in the pixels that boxes are given in; undefined while they are not known. */
  size() {
    if (this.hasCamera) return this.live;
    if (this.item?.result) return this.item.result;
    return image.naturalWidth ? { width: image.naturalWidth, height: image.naturalHeight }
      : video.videoWidth ? { width: video.videoWidth, height: video.videoHeight } : undefined;
  }

  /** The detections in the image, or in the frame that the video or camera shows. */
  present() {
    const item = this.item;
    if (this.hasCamera) return this.live?.detections ?? [];
    if (!item?.isVideo || !item.result) return item?.detections ?? [];
    if (!video.currentSrc.startsWith("blob:")) return [];  // the server has drawn them
    return item.frames.get(item.frameAt(item.seen ?? video.currentTime, video.duration))?.detections ?? [];
  }

  fit() {
    const own = this.size();
    if (!own?.width) return;
    const scale = Math.min(get("room").clientWidth / own.width, (HIGHEST * innerHeight) / own.height, LARGEST);
    get("stage").style.width = `${Math.max(1, Math.round(own.width * scale))}px`;
  }

  draw() {
    const ratio = devicePixelRatio, own = this.size();
    canvas.width = Math.round(canvas.clientWidth * ratio);
    canvas.height = Math.round(canvas.clientHeight * ratio);
    if (!own?.width) return;
    const paint = canvas.getContext("2d"), scale = canvas.width / own.width;
    drawDetections(paint, this.kept(this.present()), this.model, scale, 13 * ratio, this.lit);
  }

  /** What is shown, in words. */
  text() {
    const item = this.item;
    if (this.hasCamera) return `camera: ${summary(this.kept(this.present()))}${this.live ? `, ${(1 / this.live.seconds).toFixed(1)} frames a second` : ""}`;
    if (!item) return "";
    if (item.state === "failed") return `${item.name}: ${item.error}`;
    if (!item.result) return `${item.name}: ${item.state === "sent" ? "processing …" : "waiting"}`;
    const found = summary(this.kept(item.detections)), { frames, of } = item.result;
    if (!item.isVideo) return `${item.name}: ${found}`;
    return `${item.name}: ${frames === of ? "" : `the first ${frames} of `}${of ?? frames} frames, ${found}`;
  }

  table() {
    const every = this.item?.isVideo && !this.hasCamera ? this.item.detections : this.present();
    const rows = get("rows").open ? this.kept(every) : [];
    get("list").tBodies[0].replaceChildren(...rows.slice(0, ROWS).map(one => this.row(one)));
    get("more").hidden = rows.length <= ROWS;
    get("more").textContent = `The first ${ROWS} of ${rows.length}: the downloads have all.`;
  }

  row(one) {
    const row = document.createElement("tr"), at = one.frame === undefined ? "" : `frame ${one.frame}: `;
    const turned = one.angle === undefined ? "" : `; ${Math.round(one.angle * 180 / Math.PI)}°`;
    for (const text of [at + one.category, one.score.toFixed(3), one.bbox.join(", ") + turned]) row.insertCell().textContent = text;
    for (const [kind, target] of [["pointerenter", one], ["pointerleave", null]]) row.addEventListener(kind, () => {
      this.lit = target;
      row.classList.toggle("lit", !!target);
      this.draw();
    });
    return row;
  }

  /** Apply thresholds and ticked classes, or a new result. */
  refresh() {
    const text = this.text();
    get("caption").textContent = image.alt = text;
    get("caption").className = this.item?.state === "failed" && !this.hasCamera ? "wrong" : "";
    video.setAttribute("aria-label", text);
    get("save").disabled = !this.item?.result;
    get("save").textContent = this.item?.isVideo ? "Download video" : "Download image";
    this.fit();
    this.draw();
    this.table();
  }
}

function summary(detections) {
  const counts = new Map();
  for (const one of detections) counts.set(one.category, (counts.get(one.category) ?? 0) + 1);
  const names = [...counts].sort((a, b) => b[1] - a[1]).map(([name, n]) => `${name} × ${n}`);
  return `${counted(detections.length, "detection")}${names.length ? `: ${names.join(", ")}` : ""}`;
}
