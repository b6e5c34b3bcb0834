// The live page: which part is shown, the stream of events, the list of runs.
import { element, Stream } from "./talk.js";
import { RunView } from "./run.js";
import { JobForm } from "./form.js";

const { make, formatIteration } = GanglionParts;

const SIGNS = { running: "▶", starting: "▶", finished: "✓", stopped: "■", interrupted: "!", failed: "✗", damaged: "✗" };
const LIVE = ["running", "starting"];
const FAILED = ["failed", "damaged", "interrupted"];

const view = new RunView();
const form = new JobForm((tag) => (location.hash = `#run/${encodeURIComponent(tag)}`));
let rows = [];
let current = null; // the tag that is shown

function tagOf(hash) {
  const [, tag] = /^#run\/(.+)$/.exec(hash) ?? [];
  try {
    return tag ? decodeURIComponent(tag) : null;
  } catch {
    return null;
  }
}

// --- the list ---

function item(row) {
  const sign = SIGNS[row.status] ?? "?";
  const kind = LIVE.includes(row.status) ? "live" : FAILED.includes(row.status) ? "failed" : "";
  const done = row.iteration === null ? "" : `, ${formatIteration(row.iteration)} iterations`;
  const state = make("small", {}, make("span", { class: kind }, `${sign} ${row.status}`), done);
  const what = [row.strategy, row.dataset].filter(Boolean).join(" on ");
  const link = make("a", { href: `#run/${encodeURIComponent(row.tag)}` }, row.tag, state);
  if (what) link.append(make("small", {}, what));
  if (row.tag === current) link.setAttribute("aria-current", "page");
  return make("li", {}, link);
}

function showRuns() {
  const wanted = element("filter").value.trim().toLowerCase();
  const text = (row) => `${row.tag} ${row.status} ${row.strategy} ${row.dataset}`.toLowerCase();
  const focused = document.activeElement?.closest?.("#runs a")?.getAttribute("href");
  element("runs").replaceChildren(...rows.filter((row) => text(row).includes(wanted)).map(item));
  element("filter-label").hidden = rows.length < 8;
  element("no-runs").hidden = rows.length > 0;
  for (const link of element("runs").querySelectorAll("a")) if (link.getAttribute("href") === focused) link.focus();
}

element("filter").addEventListener("input", showRuns);

// --- the stream ---

const stream = new Stream({
  state(text, lost) {
    const place = element("connection");
    if (place.textContent !== text) place.textContent = text;
    place.classList.toggle("lost", lost);
  },
  runs(data) {
    rows = data;
    showRuns();
  },
  run: (data) => view.tell(data),
  gone: () => view.gone(),
  show: (data) => view.show(data),
  append: (data) => view.append(data),
});

// --- which part is shown ---

function route(moved) {
  const tag = tagOf(location.hash);
  const part = tag ? "run" : location.hash === "#new" ? "new" : "start";
  for (const name of ["start", "run", "new"]) element(name).hidden = name !== part;
  if (tag !== current) {
    current = tag;
    view.open(tag);
    stream.open(tag);
  }
  if (part === "new") form.open();
  document.title = tag ? `${tag} - Ganglion` : "Ganglion";
  showRuns();
  if (moved) element("main").focus();
}

addEventListener("hashchange", () => route(true));
stream.open(null);
route(false);
GanglionParts.copyButtons();
