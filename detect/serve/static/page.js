// What the pages of models share: their files, how these come and go, and the list of them.

export const get = id => document.getElementById(id);
export const counted = (number, one, many = `${one}s`) => `${number.toLocaleString("en")} ${number === 1 ? one : many}`;

/** Show a line of text, as an error where something is wrong. */
export function say(text, wrong = false) {
  get("said").textContent = text;
  get("said").className = wrong ? "wrong" : "";
}

/** Pass on the files that are dropped (folders too), pasted or chosen. */
export function receive(add) {
  get("drop").addEventListener("click", () => get("file").click());
  get("file").addEventListener("change", () => { add(get("file").files); get("file").value = ""; });
  for (const kind of ["dragover", "dragleave", "drop"]) addEventListener(kind, async event => {
    event.preventDefault();
    get("drop").classList.toggle("over", kind === "dragover");
    if (kind === "drop") add(await filesOf(event.dataTransfer));
  });
  addEventListener("paste", event => add(event.clipboardData.files));
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

export function download(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}

/** The canvas of an image file in its own size; null where the browser cannot read it. */
export async function canvasOf(file) {
  const bitmap = await createImageBitmap(file).catch(() => null);
  if (!bitmap) return null;
  const copy = Object.assign(document.createElement("canvas"), { width: bitmap.width, height: bitmap.height });
  copy.getContext("2d").drawImage(bitmap, 0, 0);
  return copy;
}

/** The list of a queue's files, of which one is selected. */
export class FileList {
  /**
   * @param {Queue} queue - whose items are listed
   * @param {(item: Item | null) => void} selected - is told which item is selected
   */
  constructor(queue, selected) {
    Object.assign(this, { queue, selected, item: null });
    get("clear").addEventListener("click", () => {
      queue.clear();
      get("files").replaceChildren();
      this.select(null);
      say("");
    });
    get("files").addEventListener("keydown", event => {
      const last = queue.items.length - 1, now = queue.items.indexOf(this.item);
      const place = { ArrowDown: now + 1, ArrowUp: now - 1, Home: 0, End: last, PageDown: now + 8, PageUp: now - 8 }[event.key];
      if (place === undefined) return;
      event.preventDefault();
      if (last >= 0) this.select(queue.items[Math.max(0, Math.min(last, place))]);
    });
  }

  select(item) {
    this.item = item;
    for (const one of this.queue.items) one.row.setAttribute("aria-selected", one === item);
    if (item) get("files").setAttribute("aria-activedescendant", item.row.id);
    else get("files").removeAttribute("aria-activedescendant");
    this.selected(item);
    item?.row.scrollIntoView({ block: "nearest" });
  }

  /** Select the file that is so many places further, if there is one. */
  step(by) {
    const item = this.queue.items[this.queue.items.indexOf(this.item) + by];
    if (item) this.select(item);
  }

  /** Show how far an item is; `done` says what was found in it. */
  update(item, done) {
    item.row ??= this.row(item);
    item.row.className = item.state;
    const text = { waiting: () => "waiting", sent: () => "processing …", failed: () => item.error, done }[item.state]();
    item.row.querySelector("small").textContent = text;
  }

  /** Say what has become of the files, once all are processed. */
  summary() {
    const all = this.queue.items.length, failed = this.queue.items.filter(one => one.state === "failed").length;
    if (all && !this.queue.waiting) say(`${counted(all, "file")} processed${failed ? `, ${failed} failed` : ""}.`, failed === all);
  }

  row(item) {
    const row = document.createElement("li");
    row.id = `file-${crypto.getRandomValues(new Uint32Array(1))[0]}`;
    row.setAttribute("role", "option");
    row.setAttribute("aria-selected", "false");
    row.innerHTML = '<canvas width="96" height="72" aria-hidden="true"></canvas><div><div class="name"></div><small></small></div>';
    row.querySelector(".name").textContent = row.title = item.name;
    row.addEventListener("click", () => this.select(item));
    get("files").append(row);
    return row;
  }

  /** Draw an image file, or the frame that a video element shows, small in the list. */
  async preview(item, source) {
    if (item.previewed) return;
    item.previewed = true;
    const options = { resizeHeight: 72, resizeQuality: "medium" };
    const small = await createImageBitmap(source, options).catch(() => null);
    if (!small) return;
    const paint = item.row.querySelector("canvas").getContext("2d"), { width, height } = paint.canvas, scale = Math.min(width / small.width, 1);
    paint.drawImage(small, (width - small.width * scale) / 2, (height - small.height * scale) / 2, small.width * scale, small.height * scale);
    small.close();
  }
}

/** A check box for a class, with its color, name and a number. */
export function classBox(name, color, changed) {
  const label = document.createElement("label");
  label.innerHTML = '<input type="checkbox" checked><span class="swatch"></span><span class="name"></span><span class="number"></span>';
  label.querySelector(".swatch").style.background = color;
  label.querySelector(".name").textContent = name;
  label.querySelector("input").addEventListener("change", event => changed(event.target.checked));
  return label;
}
