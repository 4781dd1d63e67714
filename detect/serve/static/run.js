// The live view of training runs: it asks for their state again and again, and shows what has changed.

const PAUSE = 2000;  // milliseconds between two questions
const get = id => document.getElementById(id);
const charts = new Map();  // by title
let tag = "", failed = false;

const made = (name, text = "", parent = null) => {
  const node = document.createElement(name);
  node.textContent = text;
  parent?.append(node);
  return node;
};
const number = value => (Math.abs(value) >= 1 ? value.toFixed(2) : value.toPrecision(3));

/** A time to come, and how far away it is. */
function end(seconds) {
  const left = seconds - Date.now() / 1000, date = new Date(seconds * 1000);
  if (left < 0) return "about to end";
  const minutes = Math.round(left / 60), away = minutes < 1 ? "less than a minute" : minutes < 100 ? `${minutes} min`
    : minutes < 2880 ? `${Math.floor(minutes / 60)} h ${minutes % 60} min` : `${(minutes / 1440).toFixed(1)} days`;
  const options = { hour: "2-digit", minute: "2-digit", ...(minutes > 600 && { weekday: "short", day: "numeric", month: "short" }) };
  return `expected to end at ${date.toLocaleString([], options)} (in ${away})`;
}

function ending(run) {
  if (run.state === "ended") return run.done < run.epochs ? "ended early" : "";
  if (run.state === "stopped") return "no process trains it: it was stopped, or has not begun; --resume goes on";
  return run.expected_end ? end(run.expected_end) : "the first epoch is under way: its curves come at its end";
}

function showRun(run, place) {
  let card = get("runs").children[place];
  if (!card) {
    get("runs").append(get("run").content.cloneNode(true));
    card = get("runs").children[place];
  }
  const set = (selector, text) => { card.querySelector(selector).textContent = text; };
  set("h2", run.name);
  set(".state", run.error ? "lost" : run.state);
  card.querySelector(".state").className = `state ${run.error ? "stopped" : run.state}`;
  set(".about", run.error ?? `${run.model} on ${run.data}`);
  for (const part of card.querySelectorAll("progress, details")) part.hidden = !!run.error;
  if (run.error) return;
  Object.assign(card.querySelector("progress"), { max: run.epochs, value: run.done, ariaLabel: "epochs" });
  set(".done", `${run.done} of ${run.epochs} epochs`);
  set(".end", ending(run));
  const last = Object.entries(run.last).map(([name, value]) => `${name} ${number(value)}`).join(", ");
  const best = run.best && (run.best.value === null ? "no epoch has found anything yet"
    : `best: ${run.best.metric} ${number(run.best.value)} in epoch ${run.best.epoch}`);
  set(".best", best ? `${best}; last: ${last}` : "");
  card.querySelector(".warnings").replaceChildren(...run.warnings.map(text => made("li", text)));
  card.querySelector("tbody").replaceChildren(...Object.entries(run.start).map(([label, text]) => {
    const row = made("tr");
    made("th", label, row).scope = "row";
    made("td", text, row);
    return row;
  }));
  card.querySelector("details").hidden = !Object.keys(run.start).length;
}

/** Draw a chart, or give the one that is there its new values, so that it stays as the reader has zoomed it. */
async function showChart({ title, names, spec }) {
  const { values } = spec.data, own = { ...spec, data: { name: "rows", values: [] }, description: title }, text = JSON.stringify(own);
  let chart = charts.get(title);
  if (!chart) {
    get("charts").append(get("chart").content.cloneNode(true));
    chart = { figure: get("charts").lastElementChild };
    chart.figure.querySelector("figcaption").textContent = title;
    charts.set(title, chart);
  }
  if (chart.text === text) return chart.view.data("rows", values).runAsync();
  chart.view?.finalize();
  chart.text = text;
  const formatTooltip = ({ series, x, y }, sanitize) => sanitize(`epoch ${x}: ${series} ${y}`);
  const options = {  // expressions are interpreted, and no style is added: the policy of the page forbids both
    renderer: "svg", ast: true, actions: false, defaultStyle: false,
    tooltip: { theme: "custom", disableDefaultStyle: true, formatTooltip },
  };
  chart.view = (await vegaEmbed(chart.figure.querySelector(".plot"), { ...own, data: { name: "rows", values } }, options)).view;
  return legend(chart, names, spec);
}

function legend(chart, names, spec) {
  const { range = [] } = spec.layer[0].encoding.color.scale, place = chart.figure.querySelector(".legend");
  place.replaceChildren(...(names.length < 2 ? [] : names).map((name, i) => {
    const button = made("button");
    made("i", "", button).style.background = range[i];
    button.append(name);
    Object.assign(button, { type: "button", value: name, ariaPressed: "true" });
    button.addEventListener("click", () => {
      button.ariaPressed = button.ariaPressed !== "true";
      const shown = [...place.children].filter(one => one.ariaPressed === "true").map(one => one.value);
      chart.view.signal("shown", shown).runAsync();
    });
    return button;
  }));
}

function showImages(runs) {
  const version = JSON.stringify(runs.map(run => [run.images, !run.done]));
  if (get("images").dataset.version === version) return;
  get("images").dataset.version = version;
  get("images").replaceChildren(...runs.flatMap((run, place) => {
    if (!run.images || !run.done) return [];
    const heading = made("h2", `${runs.length > 1 ? `${run.name}: ` : ""}Validation images: annotations left, predictions of the best weights right`);
    const gallery = made("div", run.images.error || (run.images.version ? "" : "They are being drawn …"));
    gallery.className = "gallery";
    run.images.captions.forEach((caption, i) => gallery.append(picture(`runs/${place}/${i}.jpg?${run.images.version}`, caption)));
    return [heading, gallery];
  }));
}

function picture(source, caption) {
  const figure = made("figure"), button = made("button", "", figure), image = made("img", "", button);
  button.type = "button";
  Object.assign(image, { src: source, alt: caption, loading: "lazy" });
  made("figcaption", caption, figure);
  button.addEventListener("click", () => {
    Object.assign(get("large").querySelector("img"), { src: source, alt: caption });
    get("large").querySelector("p").textContent = caption;
    get("large").showModal();
  });
  return figure;
}

async function refresh() {
  const response = await fetch("runs", { headers: tag ? { "If-None-Match": tag } : {} }).catch(() => null);
  failed = !response || response.status >= 500;
  if (failed) return say("The server does not respond; this is its last state.");
  if (response.status === 304) return say();
  const state = await response.json();
  if (!response.ok) return say(state.error);
  tag = response.headers.get("ETag");
  state.runs.forEach(showRun);
  const titles = new Set(state.charts.map(one => one.title));
  for (const [title, chart] of charts) if (!titles.has(title)) { chart.figure.remove(); charts.delete(title); }
  for (const chart of state.charts) await showChart(chart);
  showImages(state.runs);
  document.documentElement.dataset.ready = tag;
  return say();
}

function say(text = "It refreshes by itself.") {
  if (get("said").textContent !== text) get("said").textContent = text;
  get("said").className = failed ? "wrong" : "";
}

for (;;) {
  if (!document.hidden) await refresh();
  await new Promise(done => setTimeout(done, PAUSE));
}
