// What a page does: tables sort and filter, charts are drawn and read, images open large. It loads nothing.
const all = (selector, inside = document) => [...inside.querySelectorAll(selector)];
const made = (name, text = "", parent = null) => {
  const node = document.createElement(name);
  node.textContent = text;
  parent?.append(node);
  return node;
};

// Tables: a column title sorts, and sorts the other way when pressed again; numbers by value, text by its words.
for (const button of all("thead button")) button.addEventListener("click", () => {
  const head = button.parentElement, table = head.closest("table"), body = table.tBodies[0];
  const up = head.ariaSort !== "ascending";
  for (const other of head.parentElement.cells) other.ariaSort = "none";
  head.ariaSort = up ? "ascending" : "descending";
  const value = row => row.cells[head.cellIndex].dataset.value ?? row.cells[head.cellIndex].textContent;
  const compared = (x, y) => {
    if (x === "" || y === "") return 0;
    return isNaN(x) || isNaN(y) ? x.localeCompare(y, undefined, {numeric: true}) : x - y;
  };
  const empty = row => value(row) === "";  // rows without a value stay last, whichever way
  body.append(...[...body.rows].sort((a, b) =>
    empty(a) - empty(b) || (up ? 1 : -1) * compared(value(a), value(b))));
});
for (const box of all(".filter input")) box.addEventListener("input", () => {
  const rows = [...box.closest(".table").querySelector("tbody").rows], words = box.value.toLowerCase().split(/\s+/);
  for (const row of rows) row.hidden = !words.every(word => row.textContent.toLowerCase().includes(word));
  const count = rows.filter(row => !row.hidden).length;
  box.closest(".filter").querySelector("output").textContent = box.value ? `${count} of ${rows.length} rows` : "";
});

// Charts: drawn by Vega-Lite from the specification beside each, with expressions interpreted (no code from strings).
const titled = (name, spec) => (name === "series" ? "" : spec.encoding[name]?.title ?? {x2: "to", low: "from", high: "to"}[name] ?? "value");
const told = (value, sanitize, spec) => Object.entries(value)
  .filter(([name, one]) => one !== "" && ["series", "x", "x2", "y", "low", "high"].includes(name))
  .map(([name, one]) => `${sanitize(titled(name, spec))} <b>${sanitize(one)}</b>`).join("<br>");
function valuesTable(details, spec) {
  const rows = spec.data.values, scroll = made("div", "", details), table = made("table", "", scroll);
  scroll.className = "scroll";
  scroll.tabIndex = 0;
  const columns = Object.keys(rows[0] ?? {}), head = made("tr", "", made("thead", "", table));
  for (const name of columns) made("th", titled(name, spec), head).scope = "col";
  const body = made("tbody", "", table);
  for (const row of rows) {
    const line = made("tr", "", body);
    for (const name of columns) made("td", String(row[name]), line);
  }
}
async function drawn(figure) {
  const spec = JSON.parse(figure.querySelector("script").textContent);
  const caption = figure.querySelector("figcaption").textContent;
  const formatTooltip = (value, sanitize) => told(value, sanitize, spec);
  const options = {renderer: "svg", ast: true, actions: false, tooltip: {theme: "custom", formatTooltip}};
  const {view} = await vegaEmbed(figure.querySelector(".plot"), {...spec, description: caption}, options);
  const buttons = all(".legend button", figure);
  for (const button of buttons) button.addEventListener("click", () => {
    button.ariaPressed = button.ariaPressed !== "true";
    view.signal("shown", buttons.filter(one => one.ariaPressed === "true").map(one => one.value)).runAsync();
  });
  const details = figure.querySelector("details");
  details.addEventListener("toggle", () => details.querySelector("table") ?? valuesTable(details, spec));
}
for (const figure of all(".chart")) await drawn(figure);

// Matrices: the cell under the pointer is told with its row, its column and its share of the row.
for (const figure of all(".matrix")) {
  const reading = figure.querySelector(".reading");
  figure.addEventListener("pointerover", event => {
    const cell = event.target.closest("tbody td");
    if (!cell) return;
    const row = cell.parentElement.cells[0], column = figure.querySelector("thead tr").cells[cell.cellIndex];
    for (const old of all(".here", figure)) old.classList.remove("here");
    row.classList.add("here");
    column.classList.add("here");
    const number = cell => Number(cell.textContent.replaceAll(",", ""));
    const sum = [...cell.parentElement.cells].slice(1).reduce((total, one) => total + number(one), 0);
    const share = Math.round(100 * number(cell) / (sum || 1));
    reading.textContent = `${row.textContent} → ${column.textContent}: ${number(cell)} (${share} % of the row)`;
  });
}

// Images: each opens large in a dialog; the arrow keys show the ones before and after it, Escape closes.
const dialog = document.querySelector("dialog"), images = all(".picture img, .gallery img");
let current = 0;
function show(index) {
  current = (index + images.length) % images.length;
  const image = images[current], large = dialog.querySelector("img");
  large.src = image.src;
  large.alt = image.alt;
  const caption = image.closest("figure").querySelector("figcaption");
  dialog.querySelector("p").textContent = [caption?.textContent, caption?.title].filter(Boolean).join("\n");
}
images.forEach((image, index) => image.parentElement.addEventListener("click", () => {
  show(index);
  dialog.showModal();
}));
dialog?.addEventListener("click", event => {
  if (event.target === dialog) dialog.close();
  if (event.target.type === "button") show(current + Number(event.target.value));
});
dialog?.addEventListener("keydown", event => {
  const step = {ArrowLeft: -1, ArrowRight: 1}[event.key];
  if (step) show(current + step);
});
document.documentElement.dataset.ready = "yes";  // for whoever waits until all charts are there
