// Looking at the generator of a run: new noise, a class, the way between two seeds; the newest wish counts.
import { askServer, element, Superseded } from "./talk.js";

const { make, formatIteration } = GanglionParts;

export class Generator {
  constructor() {
    element("look").addEventListener("click", () => this.begin());
    element("draw").addEventListener("submit", (event) => event.preventDefault());
    for (const id of ["count", "seed", "towards", "share", "class"]) {
      element(id).addEventListener("input", () => this.draw());
    }
    element("next-seed").addEventListener("click", () => {
      element("seed").value = String(Number(element("seed").value) + 1);
      element("towards").value = String(Number(element("towards").value) + 1);
      this.draw();
    });
  }

  open(tag) {
    this.tag = tag;
    this.shown = null; // the iteration of the checkpoint that is drawn from
    this.newest = null;
    element("draw").hidden = element("picture").hidden = element("texts").hidden = true;
    element("look").hidden = false;
    element("look").disabled = false;
    element("share").value = "0";
    for (const id of ["drawn", "draw-problem", "generator-note"]) element(id).textContent = "";
  }

  // A newer checkpoint is there: drawn from at once where that is wanted.
  tell(details) {
    const newer = this.newest !== null && details.iteration !== this.newest;
    this.newest = details.iteration;
    if (newer && this.shown !== null && element("follow").checked) this.draw();
  }

  async begin() {
    const tag = this.tag;
    element("look").disabled = true;
    element("generator-note").textContent = "Opening the newest checkpoint; this takes some seconds the first time.";
    try {
      const found = await askServer(`/api/runs/${encodeURIComponent(tag)}/generator`);
      if (tag !== this.tag) return;
      element("generator-note").textContent = found.draws ? "" : "This strategy makes no samples.";
      if (!found.draws) return;
      const choice = (value, text) => make("option", { value }, text);
      const classes = found.classes.map((name, index) => choice(String(index), name));
      element("class").replaceChildren(choice("", "all in turn"), ...classes);
      element("class-label").hidden = found.classes.length === 0;
      element("count").value = found.kind === "vector" ? "500" : "16";
      element("look").hidden = true;
      element("draw").hidden = false;
      await this.draw();
    } catch (error) {
      if (tag === this.tag) this.problem(error);
    } finally {
      element("look").disabled = false;
    }
  }

  asked() {
    const share = Number(element("share").value) / 100;
    const asked = { count: element("count").value, seed: element("seed").value };
    if (share > 0) Object.assign(asked, { towards: element("towards").value, share });
    if (element("class").value !== "") asked.classes = element("class").value;
    return asked;
  }

  async draw() {
    const tag = this.tag;
    element("share-text").textContent = `${element("share").value} %`;
    try {
      const found = await askServer(`/api/runs/${encodeURIComponent(tag)}/draw`, { asked: this.asked() });
      if (tag === this.tag) this.show(found);
    } catch (error) {
      if (tag === this.tag && !(error instanceof Superseded)) this.problem(error);
    }
  }

  show(found) {
    this.shown = found.iteration;
    const way = element("share").value === "0" ? "" : `, ${element("share").value} % of the way to seed ${element("towards").value}`;
    const text = `${found.count} samples of the checkpoint of iteration ${formatIteration(found.iteration)}, seed ${element("seed").value}${way}.`;
    element("drawn").textContent = [text, ...found.notices].join(" ");
    element("draw-problem").textContent = "";
    element("generator-note").textContent = "";
    element("picture").hidden = !found.picture;
    element("texts").hidden = !found.texts;
    if (found.picture) {
      element("picture").src = `data:image/png;base64,${found.picture}`;
      element("picture").alt = text;
    }
    if (found.texts) element("texts").textContent = found.texts.join("\n");
  }

  problem(error) {
    element("generator-note").textContent = "";
    element("draw-problem").textContent = error.message;
  }
}
