// One chart: lines over iterations drawn by Bokeh, with a legend that switches them and tells their values, and a table.
// `owner` (charts.js) has what all charts share: start, end, log, smooth, reading, alarms, placeOf(), read(), zoomed().
"use strict";

const GanglionChart = (() => {
  const { make, formatNumber, formatIteration } = GanglionParts;
  const { nearest, smoothed, extend, bounds } = GanglionCurves;
  const DASHES = [[], [7, 3], [2, 3], [9, 3, 2, 3]];
  const COLOURS = 6;
  const HEIGHT = 230;
  const WIDE = ["losses", "parts"]; // charts that have two columns where there is room

  function theme() {
    const style = getComputedStyle(document.documentElement);
    const read = (name) => style.getPropertyValue(name).trim();
    const curves = Array.from({ length: COLOURS }, (_, index) => read(`--curve-${index + 1}`));
    return { text: read("--text"), muted: read("--muted"), grid: read("--line"), paper: read("--surface"), alarm: read("--alarm"), curves };
  }

  const look = (index) => ({ colour: index % COLOURS, dash: DASHES[(index + Math.floor(index / COLOURS)) % DASHES.length] });

  class Chart {
    constructor(owner, key, title) {
      this.owner = owner;
      this.key = key;
      this.title = title;
      this.lines = [];
      this.plotArea = make("div", { class: "plot", role: "img" });
      this.legend = make("ul", { class: "legend" });
      this.numbers = make("tbody");
      const heads = ["curve", "first", "lowest", "highest", "last"].map((head) => make("th", { scope: "col" }, head));
      const table = make("table", {}, make("thead", {}, make("tr", {}, ...heads)), this.numbers);
      const details = make("details", {}, make("summary", {}, "Numbers"), make("div", { class: "wide" }, table));
      details.addEventListener("toggle", () => this.tell());
      this.details = details;
      const kind = WIDE.includes(key) ? "chart wide-chart" : "chart";
      this.element = make("section", { class: kind }, make("h3", {}, title), this.plotArea, this.legend, details);
    }

    // Points of a line, which is new where the label is.
    extend(label, curve) {
      extend(this.line(label), curve);
    }

    line(label) {
      let found = this.lines.find((line) => line.label === label);
      if (!found) {
        const place = this.owner.placeOf(label, this);
        found = { label, x: [], y: [], hidden: false, place, ...look(place) };
        this.lines.push(found);
        this.addLegend(found);
        this.view = null; // drawn anew, with one more curve
      }
      return found;
    }

    addLegend(line) {
      const box = make("input", { type: "checkbox", checked: true });
      box.addEventListener("change", () => {
        line.hidden = !box.checked;
        this.refresh();
      });
      const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
      const stroke = document.createElementNS("http://www.w3.org/2000/svg", "line");
      const attributes = { x1: 0, x2: 28, y1: 5, y2: 5, "stroke-width": 2.5, "stroke-dasharray": line.dash.join(" ") };
      for (const [name, value] of Object.entries(attributes)) stroke.setAttribute(name, value);
      stroke.style.stroke = `var(--curve-${line.colour + 1})`;
      svg.setAttribute("class", "swatch");
      svg.setAttribute("aria-hidden", "true");
      svg.append(stroke);
      line.reading = make("span", { class: "reading" });
      this.legend.append(make("li", {}, make("label", {}, box, svg, make("span", {}, line.label)), line.reading));
    }

    draw() {
      const M = Bokeh.Models;
      const colours = theme();
      const log = this.owner.log;
      this.plotArea.style.background = colours.paper; // it is printed with the chart, whose colours fit it
      const axis = {
        axis_line_color: colours.muted, major_tick_line_color: colours.muted, minor_tick_line_color: null,
        major_label_text_color: colours.muted, major_label_text_font: "sans-serif", major_label_text_font_size: "12px",
      };
      const ticker = new M.BasicTicker({ desired_num_ticks: WIDE.includes(this.key) ? 7 : 4 });
      const below = new M.LinearAxis({ ...axis, ticker, formatter: new M.NumeralTickFormatter({ format: "0,0" }) });
      const left = log ? new M.LogAxis(axis) : new M.LinearAxis(axis);
      this.x = new M.Range1d({ start: this.owner.start, end: this.owner.end });
      this.y = new M.Range1d({ start: 0, end: 1 });
      const grids = [new M.Grid({ axis: left, dimension: 1, grid_line_color: colours.grid })];
      this.span = new M.Span({ dimension: "height", line_color: colours.muted, line_width: 1, visible: false });
      this.plot = new M.Plot({
        x_range: this.x, y_range: this.y, x_scale: new M.LinearScale(), y_scale: log ? new M.LogScale() : new M.LinearScale(),
        height: HEIGHT, sizing_mode: "stretch_width", toolbar_location: null, min_border_right: 14,
        background_fill_color: null, border_fill_color: null, outline_line_color: null,
      });
      this.plot.below = [below];
      this.plot.left = [left];
      this.plot.center = [...grids, this.span, ...this.shades(colours)];
      this.plot.renderers = this.lines.flatMap((line) => this.renderers(line, colours));
      this.addTools();
      this.mount();
    }

    renderers(line, colours) {
      const M = Bokeh.Models;
      line.source = new M.ColumnDataSource({ data: { x: [], y: [], s: [] } });
      const pen = { line_color: colours.curves[line.colour], line_dash: line.dash, line_join: "round" };
      const x = { field: "x" };
      const made = (y, width, alpha) => {
        const glyph = new M.Line({ x, y: { field: y }, line_width: width, line_alpha: alpha, ...pen });
        return new M.GlyphRenderer({ data_source: line.source, glyph });
      };
      line.raw = made("y", 1.7, 1);
      line.raw.muted_glyph = new M.Line({ x, y: { field: "y" }, line_width: 1, line_alpha: 0.3, ...pen, line_dash: [] });
      line.smooth = made("s", 2.2, 1);
      return [line.raw, line.smooth];
    }

    shades(colours) {
      const style = { fill_color: colours.alarm, fill_alpha: 0.09, line_color: null, level: "underlay" };
      return this.owner.alarms.map((alarm) => {
        const right = alarm.over ? { right: alarm.last } : {}; // otherwise to the edge
        return new Bokeh.Models.BoxAnnotation({ left: alarm.first, ...right, ...style });
      });
    }

    addTools() {
      const M = Bokeh.Models;
      const touch = matchMedia("(pointer: coarse)").matches; // there dragging moves the page
      const box = new M.BoxZoomTool({ dimensions: "width" });
      const wheel = new M.WheelZoomTool({ dimensions: "width", modifiers: { ctrl: true } });
      this.plot.toolbar = new M.Toolbar({
        tools: touch ? [] : [box, wheel], active_drag: touch ? null : box, active_scroll: touch ? null : wheel, logo: null,
      });
      this.plot.on_event("mousemove", (event) => this.owner.read(event.x));
      this.x.change.connect(() => {
        if (this.owner.busy) return;
        cancelAnimationFrame(this.moving); // Bokeh sets the other axis after this one
        this.moving = requestAnimationFrame(() => this.owner.zoomed(this.x.start, this.x.end));
      });
    }

    mount() {
      this.views?.clear();
      this.plotArea.replaceChildren();
      const { Document } = Bokeh.require("document");
      const paper = new Document({ roots: [this.plot] });
      this.view = paper;
      Bokeh.embed.add_document_standalone(paper, this.plotArea).then((views) => (this.views = views));
      this.refresh();
    }

    // New points, another range, a switch: everything but the theme and the kind of axis.
    refresh() {
      if (!this.view) return;
      const { start, end, smooth, log } = this.owner;
      const shown = this.lines.filter((line) => !line.hidden);
      for (const line of this.lines) {
        const y = log ? line.y.map((value) => (value > 0 ? value : NaN)) : line.y;
        line.source.data = { x: line.x, y, s: smooth ? smoothed(y) : y };
        line.raw.visible = !line.hidden;
        line.raw.muted = smooth;
        line.smooth.visible = smooth && !line.hidden;
      }
      this.x.setv({ start, end });
      this.fit(shown, start, end);
      const names = this.lines.map((line) => line.label).join(", ");
      this.plotArea.setAttribute("aria-label", `${this.title}: ${names}. The values are in the table below the chart.`);
      this.tell();
      this.tellReading();
    }

    fit(shown, start, end) {
      const [low, high] = bounds(shown, start, end, this.owner.log);
      this.y.setv({ start: low, end: high });
    }

    zoom(start, end) {
      if (!this.view) return;
      this.x.setv({ start, end });
      this.fit(this.lines.filter((line) => !line.hidden), start, end);
    }

    tellReading() {
      const at = this.owner.reading;
      this.span.setv({ location: at ?? 0, visible: at !== null });
      for (const line of this.lines) {
        const index = at === null ? line.x.length - 1 : nearest(line.x, at);
        line.reading.textContent = line.x.length ? formatNumber(line.y[index]) : "";
      }
    }

    tell() {
      if (!this.details.open) return;
      const rows = this.lines.filter((line) => line.x.length).map((line) => {
        const finite = line.y.map((value, index) => [value, line.x[index]]).filter(([value]) => Number.isFinite(value));
        const order = [...finite].sort((a, b) => a[0] - b[0]);
        const place = (found) => (found ? `${formatNumber(found[0])} (at ${formatIteration(found[1])})` : "none is finite");
        const cells = [place(finite[0]), place(order[0]), place(order.at(-1)), place(finite.at(-1))];
        return make("tr", {}, make("th", { scope: "row" }, line.label), ...cells.map((cell) => make("td", {}, cell)));
      });
      this.numbers.replaceChildren(...rows);
    }
  }

  return Chart;
})();
