// The files, and the requests that process them, a few at a time.

const PARALLEL = 2, RETRIES = 8;
export const LOWEST = 0.01;  // confidence that images are requested with: the slider then needs no server

/** The JSON that the server answers with. Throws an Error with its one line, or an AbortError. */
export async function ask(path, options = {}) {
  let response;
  try {
    response = await fetch(path, options);
  } catch (error) {
    throw error.name === "AbortError" ? error : new Error("the server does not respond");
  }
  const answer = await response.json();
  if (!response.ok) throw Object.assign(new Error(answer.error), { status: response.status });
  return answer;
}

/** Send a file or frame. Where the server is busy it waits and tries again. */
export async function send(kind, body, conf, iou, signal) {
  const headers = { "Content-Type": body.type || "application/octet-stream" };
  for (let tries = 1; ; tries++) {
    try {
      return await ask(`${kind}?conf=${conf}&iou=${iou}`, { method: "POST", body, headers, signal });
    } catch (error) {
      if (error.status !== 503 || tries === RETRIES) throw error;
      await new Promise(done => setTimeout(done, 500 * tries));
    }
  }
}

/** A file and its results: `detections` holds all of them, those of a video by frame in `frames` as well. */
class Item {
  constructor(file, name) {
    Object.assign(this, { file, name, isVideo: file.type.startsWith("video/"), state: "waiting", detections: [] });
  }

  /** The index of a video's frame that is shown at a time in seconds; undefined where nothing was detected in it. */
  frameAt(seconds, duration) {
    const tolerance = this.result.of ? duration / this.result.of / 2 : 1 / 60;
    let best;
    for (const [index, { time }] of this.frames) if (Math.abs(time - seconds) < tolerance) best = index;
    return best;
  }
}

export class Queue {
  /**
   * @param {() => {conf: number, iou: number}} thresholds - as they are now
   * @param {(item: Item) => void} changed - is told of every change of an item
   */
  constructor(thresholds, changed) {
    Object.assign(this, { thresholds, changed, items: [], running: new Map() });
  }

  /** Add files; returns their items. */
  add(files) {
    const added = [...files].map(file => new Item(file, this.unique(file.name)));
    this.items.push(...added);
    this.pump();
    return added;
  }

  unique(name) {
    const taken = new Set(this.items.map(one => one.name)), [, stem, suffix] = /^(.*?)(\.[^.]*)?$/s.exec(name);
    let free = name;
    for (let n = 2; taken.has(free); n++) free = `${stem}-${n}${suffix ?? ""}`;
    return free;
  }

  get waiting() {
    return this.items.filter(one => one.state === "waiting" || one.state === "sent").length;
  }

  pump() {
    for (const item of this.items) {
      if (this.running.size >= PARALLEL) return;
      if (item.state === "waiting") this.process(item);
    }
  }

  async process(item) {
    const ended = new AbortController(), { conf, iou } = this.thresholds();
    this.running.set(item, ended);
    item.state = "sent";
    this.changed(item);
    try {
      item.asked = item.isVideo ? conf : LOWEST;
      const result = await send(item.isVideo ? "video" : "image", item.file, item.asked, iou, ended.signal);
      const records = item.isVideo ? await ask(`video/${result.name}/detections.json`, ended) : result.detections ?? result.segments;
      if (!ended.signal.aborted) this.finish(item, result, records);
    } catch (error) {
      if (!ended.signal.aborted) Object.assign(item, { state: "failed", error: error.message, detections: [] });
    }
    if (this.running.get(item) !== ended) return;
    this.running.delete(item);
    this.changed(item);
    this.pump();
  }

  finish(item, result, records) {
    Object.assign(item, { state: "done", result, detections: records, frames: new Map() });
    if (!item.isVideo) return;
    for (const one of records) {
      if (!item.frames.has(one.frame)) item.frames.set(one.frame, { time: one.time, detections: [] });
      item.frames.get(one.frame).detections.push(one);
    }
  }

  /** Process again, with other thresholds, the items that `chosen` says. */
  again(chosen) {
    for (const item of this.items.filter(chosen)) {
      this.abort(item);
      item.state = "waiting";
      this.changed(item);
    }
    this.pump();
  }

  /** Leave what is not processed yet. */
  stop() {
    for (const item of this.items.filter(one => one.state === "waiting" || one.state === "sent")) {
      this.abort(item);
      Object.assign(item, item.result ? { state: "done" } : { state: "failed", error: "stopped" });
      this.changed(item);
    }
  }

  clear() {
    for (const item of this.items) this.abort(item);
    this.items = [];
  }

  abort(item) {
    this.running.get(item)?.abort();
    this.running.delete(item);
  }
}
