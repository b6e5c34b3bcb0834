// Curves over iterations, drawn by Bokeh (SCRIPTS of assets.py says what comes before this file).
//
//   const charts = GanglionCharts.create(container);      makes the controls; nothing is drawn yet
//   charts.show([{label: "gan-1", document: {...}}]);     documents of engine/pages/series.py; several runs are overlaid
//   charts.append("gan-1", document);                     new points, new curves and new charts of a live run
//   charts.read(4200);                                    shows every curve's value there
//
// All charts share one range of iterations: dragging a stretch or turning the wheel with Ctrl zooms, a double click shows
// all. Everything that the mouse does can be done with the controls above the charts as well.
"use strict";

const GanglionCharts = (() => {
  const { make, formatIteration } = GanglionParts;

  class Charts {
    constructor(container) {
      this.charts = [];
      this.roles = new Map();
      this.runs = [];
      this.alarms = [];
      this.log = false;
      this.smooth = false;
      this.reading = null;
      this.start = 0;
      this.end = 1;
      this.last = 1;
      this.whole = true; // whether all iterations are shown, so that new ones widen the range
      this.area = make("div", { class: "charts" });
      container.replaceChildren(this.controls(), this.area);
      Bokeh.logger.set_level("warn");
      matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.redraw());
    }

    controls() {
      const number = (label, change) => {
        const input = make("input", { type: "number", min: "0", step: "any", inputmode: "numeric" });
        input.addEventListener("change", change);
        return [input, make("label", {}, `${label} `, input)];
      };
      const toggle = (label, change) => {
        const input = make("input", { type: "checkbox" });
        input.addEventListener("change", () => change(input.checked));
        return make("label", {}, input, ` ${label}`);
      };
      const typed = () => {
        this.zoomed(this.from.valueAsNumber, this.to.valueAsNumber);
        this.tellRange(); // what cannot be shown is put back
      };
      const [from, fromLabel] = number("Iterations from", typed);
      const [to, toLabel] = number("to", typed);
      const all = make("button", { type: "button" }, "Show all");
      all.addEventListener("click", () => this.showAll());
      this.cursor = make("input", { type: "range", min: "0", max: "1", value: "1", step: "1" });
      this.cursor.addEventListener("input", () => this.read(Number(this.cursor.value)));
      this.cursorText = make("output");
      Object.assign(this, { from, to });
      this.area.addEventListener("dblclick", () => this.showAll());
      return make(
        "div", { class: "controls all-charts", role: "group", "aria-label": "All charts" }, fromLabel, toLabel, all,
        toggle("log scale", (on) => ((this.log = on), this.redraw())),
        toggle("smooth", (on) => ((this.smooth = on), this.refresh())),
        make("label", { class: "cursor" }, "Values at ", this.cursor, this.cursorText),
      );
    }

    // Which look a line has: that of its run where there are several, otherwise that of its role where it is free.
    placeOf(label, chart) {
      if (this.runs.length > 1) return this.runs.indexOf(label);
      const taken = new Set(chart.lines.map((line) => line.place));
      const role = label.match(/^[a-z]*/)[0];
      if (chart.key === "losses" && !this.roles.has(role)) this.roles.set(role, this.roles.size);
      const wanted = this.roles.get(role);
      if (wanted !== undefined && !taken.has(wanted)) return wanted;
      let free = 0;
      while (taken.has(free)) free += 1;
      return free;
    }

    show(runs) {
      this.charts = [];
      this.area.replaceChildren();
      this.runs = runs.map((run) => run.label);
      this.alarms = runs.length === 1 ? runs[0].document.alarms : [];
      this.last = Math.max(1, ...runs.map((run) => run.document.last));
      for (const run of runs) this.take(run.label, run.document);
      this.showAll();
    }

    append(label, document) {
      this.last = Math.max(this.last, document.last);
      this.take(label, document);
      const before = JSON.stringify(this.alarms);
      if (this.runs.length <= 1) this.alarms = document.alarms;
      if (this.whole) this.end = this.last;
      if (JSON.stringify(this.alarms) === before) this.refresh();
      else this.redraw();
      this.tellRange();
    }

    // One run: a chart per group, a line per curve. Several: a chart per curve, a line per run.
    take(label, document) {
      for (const group of document.groups) {
        for (const curve of group.curves) {
          if (this.runs.length > 1) this.add(`${group.key}/${curve.name}`, this.titleOf(group, curve), label, curve);
          else this.add(group.key, group.title, curve.name, curve);
        }
      }
    }

    titleOf(group, curve) {
      const kind = group.key.split(".")[0];
      if (kind === "speed") return group.title;
      return ["losses", "parts"].includes(kind) ? curve.name : `${kind[0].toUpperCase()}${kind.slice(1)}: ${curve.name}`;
    }

    add(key, title, label, curve) {
      let chart = this.charts.find((each) => each.key === key);
      if (!chart) {
        chart = new GanglionChart(this, key, title);
        this.charts.push(chart);
        this.area.append(chart.element);
      }
      if (curve.x.length) chart.extend(label, curve);
    }

    zoomed(start, end) {
      if (this.busy || !(Number.isFinite(start) && Number.isFinite(end) && end > start)) return;
      this.busy = true;
      Object.assign(this, { start, end, whole: start <= 0 && end >= this.last });
      for (const chart of this.charts) chart.zoom(start, end);
      this.tellRange();
      this.busy = false;
    }

    showAll() {
      Object.assign(this, { start: 0, end: this.last, whole: true });
      this.refresh();
      this.tellRange();
    }

    tellRange() {
      this.from.value = String(Math.max(0, Math.round(this.start)));
      this.to.value = String(Math.round(this.end));
      this.cursor.max = String(this.last);
      if (this.reading === null) this.cursor.value = this.cursor.max;
      this.cursorText.textContent = formatIteration(this.reading ?? this.last);
    }

    read(iteration) {
      this.reading = Math.min(this.last, Math.max(0, iteration));
      this.cursor.value = String(Math.round(this.reading));
      this.cursorText.textContent = formatIteration(this.reading);
      for (const chart of this.charts) if (chart.view) chart.tellReading();
    }

    refresh() {
      this.busy = true; // the ranges answer to what is set here
      for (const chart of this.charts) chart.refresh();
      this.busy = false;
      this.draw();
    }

    redraw() {
      for (const chart of this.charts) chart.view = null;
      this.draw();
    }

    // One chart at a time, so that the page answers in between.
    draw() {
      clearTimeout(this.drawing);
      const chart = this.charts.find((each) => !each.view);
      if (!chart) return;
      this.busy = true;
      chart.draw();
      this.busy = false;
      this.drawing = setTimeout(() => this.draw());
    }
  }

  return { create: (container) => new Charts(container) };
})();
