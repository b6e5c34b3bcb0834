// One run: its state, its curves, its samples as they come, and what can be done with it.
import { askServer, element } from "./talk.js";
import { Generator } from "./generator.js";

const { make, formatIteration, formatNumber } = GanglionParts;

const WORDS = {
  running: "It is learning.", starting: "It is about to begin.", finished: "It has finished.", stopped: "It was stopped.",
  interrupted: "It was interrupted: its process is gone. It goes on from its last checkpoint.", failed: "It failed.",
  damaged: "Its record cannot be read.",
};

const duration = (seconds) => {
  if (!Number.isFinite(seconds)) return "";
  const whole = Math.round(seconds);
  const [hours, minutes] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60];
  if (hours) return `${hours} h ${minutes} min`;
  if (minutes >= 10) return `${minutes} min`;
  return minutes ? `${minutes} min ${whole % 60} s` : `${whole} s`;
};

export class RunView {
  constructor() {
    this.charts = GanglionCharts.create(element("curves"));
    this.pictures = GanglionParts.createPictures(element("samples"));
    this.generator = new Generator();
    element("stop").addEventListener("click", () => this.act("stop", {}));
    element("continue").addEventListener("click", () => this.act("continue", { iterations: element("more").value }));
    element("settings").addEventListener("toggle", () => this.loadSettings());
  }

  open(tag) {
    this.tag = tag;
    this.details = null;
    this.document = null;
    this.frames = [];
    element("tag").textContent = tag ?? "";
    for (const id of ["what", "state", "said", "output"]) element(id).textContent = "";
    element("more").value = "";
    element("settings").open = false;
    element("settings-rows").replaceChildren();
    element("progress-line").hidden = element("actions").hidden = true;
    this.pictures.show([]);
    this.curves({ groups: [], alarms: [], last: 0, seconds: null, rate: null });
    this.generator.open(tag);
  }

  // --- the run's state ---

  tell(details) {
    if (details.tag !== this.tag) return;
    this.details = details;
    const what = [details.strategy, details.networks.join(","), details.dataset].filter(Boolean).join(" · ");
    element("what").textContent = details.started ? `${what} · begun ${new Date(details.started).toLocaleString()}` : what;
    const more = details.refused || details.problem || details.reason;
    const first = details.refused ? `It did not ${details.canGoOn ? "go on" : "begin"}.` : (WORDS[details.status] ?? details.status);
    element("state").textContent = more ? `${first} ${more}` : first;
    element("state").classList.toggle("bad", Boolean(details.refused) || ["failed", "damaged"].includes(details.status));
    element("actions").hidden = !(details.canStop || details.canGoOn);
    element("stop").hidden = !details.canStop;
    element("continue").hidden = element("more-label").hidden = !details.canGoOn;
    element("more").placeholder = details.iterations > 0 ? String(details.iterations) : "";
    element("output").textContent = details.output;
    element("output-section").hidden = !details.output;
    if (details.refused) element("output-section").open = true;
    element("generator").hidden = !details.canDraw;
    this.generator.tell(details);
    this.takeSamples(details.samples);
    this.progress();
  }

  gone() {
    element("state").textContent = "There is no run of this tag (any more): its directory is gone.";
    element("state").classList.add("bad");
    element("actions").hidden = element("progress-line").hidden = element("generator").hidden = true;
  }

  progress() {
    const { details, document: found } = this;
    if (!details) return;
    const done = Math.max(details.iteration ?? 0, found?.last ?? 0);
    const live = details.status === "running";
    const whole = details.iterations > 0 ? details.iterations : null;
    const parts = [`${formatIteration(done)}${whole ? ` of ${formatIteration(whole)}` : ""} iterations`];
    if (live && found?.rate) {
      parts.push(`${formatNumber(found.rate)} per second`);
      if (whole > done) parts.push(`about ${duration((whole - done) / found.rate)} left`);
    }
    element("progress-line").hidden = done === 0 && !live;
    element("progress").hidden = whole === null;
    element("progress").value = whole ? Math.min(1, done / whole) : 0;
    element("progress-text").textContent = parts.join(", ");
  }

  // --- curves and health ---

  curves(found) {
    this.document = found;
    element("no-curves").hidden = found.groups.length > 0;
    element("curves").hidden = found.groups.length === 0;
    this.charts.show(found.groups.length ? [{ label: this.tag, document: found }] : []);
    this.health();
  }

  show(found) {
    this.curves(found);
    this.progress();
  }

  append(found) {
    if (!this.document?.groups.length) return this.show(found);
    this.document = { ...found, groups: this.document.groups };
    this.charts.append(this.tag, found);
    this.health();
    return this.progress();
  }

  health() {
    element("health-section").hidden = !(this.document.readings || this.document.alarms.length);
    GanglionParts.showAlarms(element("health"), this.document);
  }

  // --- samples ---

  takeSamples(iterations) {
    element("samples-section").hidden = iterations.length === 0;
    const before = this.frames.map((frame) => frame.iteration);
    this.frames = iterations.map((iteration) => ({
      iteration,
      src: `/api/runs/${encodeURIComponent(this.tag)}/samples/${iteration}.png`,
      alt: `Samples of ${this.tag} after ${formatIteration(iteration)} iterations`,
    }));
    const same = before.every((iteration, index) => iterations[index] === iteration);
    if (same && before.length) {
      for (const frame of this.frames.slice(before.length)) this.pictures.append(this.tag, frame);
    } else if (iterations.length || before.length) {
      this.pictures.show([{ label: this.tag, frames: this.frames }]);
    }
  }

  // --- what can be done ---

  async act(name, body) {
    const tag = this.tag;
    const place = element("said");
    place.className = "note";
    place.textContent = "asking";
    try {
      const found = await askServer(`/api/runs/${encodeURIComponent(tag)}/${name}`, body);
      if (tag === this.tag) place.textContent = found.said;
    } catch (error) {
      if (tag !== this.tag) return;
      place.className = "bad";
      place.textContent = error.message;
    }
  }

  async loadSettings() {
    if (!element("settings").open || element("settings-rows").childElementCount) return;
    const tag = this.tag;
    const row = (key, value) => make("tr", {}, make("th", { scope: "row" }, key), make("td", {}, value));
    try {
      const { job } = await askServer(`/api/runs/${encodeURIComponent(tag)}`);
      if (tag !== this.tag) return;
      if (!job) throw new Error("the job of this run cannot be read");
      const pairs = { networks: job.networks.join(","), dataset: job.dataset, strategy: job.strategy, ...job.settings };
      element("settings-rows").replaceChildren(...Object.entries(pairs).map(([key, value]) => row(key, value)));
    } catch (error) {
      element("settings-rows").replaceChildren(row("problem", error.message));
    }
  }
}
