// The form that starts a job. Its fields come from the settings' own declarations; what is wrong is said by the engine.
import { askServer, element, Superseded } from "./talk.js";

const { make } = GanglionParts;

const WAIT = 250; // milliseconds after the last key before the server is asked
const FIRST = { strategy: "NSGAN", dataset: "Digits" };

export class JobForm {
  constructor(started) {
    this.started = started;
    this.filled = new Map(); // what a person filled in, by key
    this.fields = new Map(); // the elements, by key
    element("job").addEventListener("submit", (event) => (event.preventDefault(), this.begin()));
    element("strategy").addEventListener("change", () => this.chose());
    element("dataset").addEventListener("change", () => this.changed(0));
    element("further").addEventListener("input", () => this.changed());
  }

  async open() {
    if (this.catalogue || this.opening) return;
    this.opening = true;
    try {
      this.catalogue = await askServer("/api/catalogue");
      element("form-note").textContent = "Fields that are left empty have the value that is shown in grey.";
      element("job").hidden = false;
      this.list("strategy", this.catalogue.strategies, FIRST.strategy);
      this.list("dataset", this.catalogue.datasets, FIRST.dataset);
      this.chose();
    } catch (error) {
      element("form-note").textContent = error.message;
    }
    this.opening = false;
  }

  list(id, things, wanted) {
    const select = element(id);
    select.replaceChildren(...things.map(({ name }) => make("option", { value: name }, name)));
    if (things.some(({ name }) => name === wanted)) select.value = wanted;
  }

  // --- names ---

  chose() {
    const strategy = this.catalogue.strategies.find(({ name }) => name === element("strategy").value);
    const labels = strategy.roles.map((role) => {
      const select = make("select", { id: `network-${role}` });
      const fit = this.catalogue.networks.filter(({ roles }) => !roles.length || roles.includes(role));
      const named = fit.find(({ name }) => name.toLowerCase() === role.toLowerCase()) ?? fit[0];
      select.append(...fit.map(({ name }) => make("option", { value: name }, name)));
      if (named) select.value = named.name;
      select.addEventListener("change", () => this.changed(0));
      return make("label", {}, `Its ${role}`, select);
    });
    element("networks").replaceChildren(...labels);
    this.changed(0);
  }

  question() {
    const about = (id, things) => things.find(({ name }) => name === element(id).value)?.about ?? "";
    element("strategy-about").textContent = about("strategy", this.catalogue.strategies);
    element("dataset-about").textContent = about("dataset", this.catalogue.datasets);
    const networks = [...element("networks").querySelectorAll("select")].map((select) => select.value).join(",");
    const keys = { strategy: element("strategy").value, ...Object.fromEntries(this.filled) };
    for (const line of element("further").value.split("\n").filter((text) => text.trim())) {
      const [key, ...value] = line.split("=");
      keys[key.trim()] = value.join("=");
    }
    return { networks, dataset: element("dataset").value, keys };
  }

  // --- asking ---

  changed(wait = WAIT) {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.check(), wait);
  }

  async check() {
    try {
      this.show(await askServer("/api/check", this.question()));
    } catch (error) {
      if (!(error instanceof Superseded)) this.wrong(error.message);
    }
  }

  show(found) {
    if (found.command !== undefined) element("command").textContent = found.command;
    element("notices").replaceChildren(...(found.notices ?? []).map((notice) => make("li", {}, notice)));
    const named = JSON.stringify({ ...this.question(), keys: element("strategy").value });
    // With a mistake in what was filled in, its fields stay; other names have other fields.
    if (found.groups.length && (!found.wrong || named !== this.named)) this.arrange(found.groups);
    this.named = named;
    this.wrong(found.wrong ?? "");
  }

  wrong(sentence) {
    element("wrong").textContent = sentence;
    element("begin").disabled = sentence !== "";
    for (const [key, field] of this.fields) {
      const mine = sentence.startsWith(`${key}=`) || sentence.startsWith(`unknown key '${key}'`);
      field.row.classList.toggle("wrong", mine);
      field.input.setAttribute("aria-invalid", String(mine));
    }
  }

  async begin() {
    clearTimeout(this.timer);
    element("begin").disabled = true;
    element("begun").textContent = "checking";
    try {
      const { tag } = await askServer("/api/jobs", this.question());
      element("begun").textContent = "";
      element("begin").disabled = false;
      this.started(tag);
    } catch (error) {
      element("begun").textContent = "";
      this.wrong(error.message);
    }
  }

  // --- fields ---

  arrange(groups) {
    const wanted = groups.flatMap(({ fields }) => fields.map(({ key }) => key));
    const known = [...this.fields.keys()];
    if (known.length === wanted.length && wanted.every((key, index) => key === known[index])) {
      for (const field of groups.flatMap(({ fields }) => fields)) this.refresh(field);
      return;
    }
    const focused = document.activeElement?.id;
    const open = [...element("groups").querySelectorAll("details[open]")].map((each) => each.dataset.title);
    this.fields.clear();
    element("groups").replaceChildren(...groups.map((group) => this.group(group, open)));
    const without = [...this.filled.keys()].filter((key) => !this.fields.has(key));
    for (const key of without) this.filled.delete(key);
    if (without.length) this.changed(0);
    if (focused) element(focused)?.focus();
  }

  group({ title, fields }, open) {
    const first = fields.filter((field) => field.first).map((field) => this.row(field));
    const others = fields.filter((field) => !field.first).map((field) => this.row(field));
    const summary = make("summary", {}, first.length ? `${others.length} more` : `${title} (${others.length})`);
    const details = make("details", first.length ? {} : { class: "group" }, summary, ...others);
    details.dataset.title = title;
    details.open = open.includes(title);
    if (!first.length) return details;
    return make("fieldset", {}, make("legend", {}, title), ...first, ...(others.length ? [details] : []));
  }

  row(field) {
    const id = `field-${field.key}`;
    const input = field.choices.length && !field.several ? this.select(field, id) : this.text(field, id);
    const row = make("div", { class: "field" });
    input.setAttribute("aria-describedby", `${id}-help`);
    input.addEventListener("input", () => {
      if (input.value === "") this.filled.delete(field.key);
      else this.filled.set(field.key, input.value);
      row.classList.toggle("filled", input.value !== "");
      this.changed(input.tagName === "SELECT" ? 0 : WAIT);
    });
    const range = field.choices.length && !field.several ? "" : ` (${[field.type, field.bounds].filter(Boolean).join(" ")})`;
    const unit = field.unit ? ` [${field.unit}]` : "";
    const help = make("small", { id: `${id}-help` }, `${field.help}${unit}${range}`);
    row.append(make("label", { for: id }, field.key), input, help);
    row.classList.toggle("filled", input.value !== "");
    this.fields.set(field.key, { row, input });
    this.refresh(field);
    return row;
  }

  select(field, id) {
    const options = field.choices.map((choice) => make("option", { value: choice }, choice));
    const select = make("select", { id }, make("option", { value: "" }), ...options);
    select.value = this.filled.get(field.key) ?? "";
    return select;
  }

  text(field, id) {
    const input = make("input", { id, type: "text", spellcheck: "false" });
    input.value = this.filled.get(field.key) ?? "";
    if (!field.choices.length) return input;
    input.title = `there are: ${field.choices.join(", ")}`;
    return input;
  }

  // What holds where nothing is filled in.
  refresh(field) {
    const { input } = this.fields.get(field.key);
    if (this.filled.has(field.key)) return;
    if (input.tagName === "SELECT") input.options[0].textContent = `(${field.value})`;
    else input.placeholder = field.value;
  }
}

