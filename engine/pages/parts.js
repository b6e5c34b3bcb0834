// Parts that report and dashboard share: safe elements, numbers, alarms in words on a time line, pictures over time.
//
//   GanglionParts.make("p", {class: "note"}, "text or elements")   text is always text, never markup
//   GanglionParts.formatNumber(0.00123), .formatIteration(12000)
//   GanglionParts.showAlarms(container, document)                  document: see engine/pages/series.py; call again when new
//   const player = GanglionParts.createPictures(container);
//   player.show([{label, frames: [{iteration, src, alt}]}]);       several runs stand side by side under one slider
//   player.append(label, frame);                                   stays at the newest picture where it was there
//   GanglionParts.copyButtons(root);                               every <button data-copy="id of an element">
"use strict";

const GanglionParts = (() => {
  function make(name, attributes = {}, ...children) {
    const element = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) {
      if (key in element && typeof value !== "string") element[key] = value;
      else element.setAttribute(key, value);
    }
    element.append(...children);
    return element;
  }

  function formatNumber(value) {
    if (value === null || value === undefined || Number.isNaN(value)) return "not finite";
    const size = Math.abs(value);
    if (size !== 0 && (size < 1e-3 || size >= 1e6)) return value.toExponential(2);
    return Number(value.toPrecision(4)).toString();
  }

  const formatIteration = (value) => Math.round(value).toLocaleString("en-US");

  // --- health: what was wrong, from when to when ---

  function alarmItem(alarm, last) {
    const start = formatIteration(alarm.first);
    const when = alarm.over
      ? `from iteration ${start} to ${formatIteration(alarm.last)}, over since`
      : `since iteration ${start}, not over`;
    const end = alarm.over ? alarm.last : last;
    const bar = make("div", { class: "alarm-bar" });
    bar.style.left = `${(100 * alarm.first) / last}%`;
    bar.style.width = `${(100 * Math.max(0, end - alarm.first)) / last}%`;
    const track = make("div", { class: "alarm-track", "aria-hidden": "true" }, bar);
    const head = make("div", {}, make("strong", {}, `⚠ ${alarm.kind}`), " ", make("span", { class: "when" }, when));
    return make("li", { class: alarm.over ? "over" : "current" }, head, track, make("p", {}, alarm.sentence));
  }

  function showAlarms(container, found) {
    if (found.alarms.length) {
      const last = Math.max(1, found.last, ...found.alarms.map((alarm) => alarm.last));
      container.replaceChildren(make("ol", { class: "alarms" }, ...found.alarms.map((each) => alarmItem(each, last))));
    } else if (found.readings) {
      const times = found.readings === 1 ? "once" : `${formatIteration(found.readings)} times`;
      container.replaceChildren(make("p", { class: "good" }, `✓ Health was read ${times} and raised no alarm.`));
    } else {
      container.replaceChildren(make("p", { class: "note" }, "Health has not been read in this run."));
    }
  }

  // --- pictures over time ---

  let players = 0;

  function createPictures(container) {
    const id = `pictures-${(players += 1)}`;
    const slider = make("input", { type: "range", id, min: "0", max: "0", step: "1", value: "0" });
    const shown = make("output", { for: id });
    const play = make("button", { type: "button" }, "▶ Play");
    const label = make("label", { for: id }, "Iteration");
    const controls = make("div", { class: "controls" }, label, slider, shown, play);
    const figures = make("div", { class: "pictures" });
    container.replaceChildren(controls, figures);
    let runs = [];
    let moments = [];
    let timer = null;

    function frameAt(run, moment) {
      return run.frames.findLast((frame) => frame.iteration <= moment) ?? run.frames[0];
    }

    function update() {
      const moment = moments[Number(slider.value)] ?? 0;
      shown.textContent = formatIteration(moment);
      slider.setAttribute("aria-valuetext", `after ${formatIteration(moment)} iterations`);
      for (const run of runs) {
        const frame = frameAt(run, moment);
        if (!frame) continue;
        if (run.image.getAttribute("src") !== frame.src) run.image.src = frame.src;
        run.image.alt = frame.alt;
        run.caption.textContent = `${run.label}, after ${formatIteration(frame.iteration)} iterations`;
      }
    }

    function arrange(atEnd) {
      const before = moments[Number(slider.value)];
      moments = [...new Set(runs.flatMap((run) => run.frames.map((frame) => frame.iteration)))].sort((a, b) => a - b);
      slider.max = String(Math.max(0, moments.length - 1));
      slider.value = atEnd ? slider.max : String(Math.max(0, moments.indexOf(before)));
      controls.hidden = moments.length < 2;
      update();
    }

    function figure(run) {
      const image = make("img", { alt: "" });
      const caption = make("figcaption");
      figures.append(make("figure", {}, image, caption));
      return { label: run.label, frames: [...run.frames], image, caption };
    }

    function stop() {
      clearInterval(timer);
      timer = null;
      play.textContent = "▶ Play";
    }

    function step() {
      if (Number(slider.value) >= Number(slider.max)) return stop();
      slider.value = String(Number(slider.value) + 1);
      return update();
    }

    slider.addEventListener("input", () => (stop(), update()));
    play.addEventListener("click", () => {
      if (timer !== null) return stop();
      if (slider.value === slider.max) slider.value = "0";
      update();
      play.textContent = "❚❚ Pause";
      timer = setInterval(step, 700);
      return timer;
    });

    return {
      show(found) {
        stop();
        figures.replaceChildren();
        runs = found.filter((run) => run.frames.length).map(figure);
        arrange(true);
      },
      append(name, frame) {
        const atEnd = slider.value === slider.max && timer === null;
        let run = runs.find((each) => each.label === name);
        if (!run) runs.push((run = figure({ label: name, frames: [] })));
        run.frames = [...run.frames.filter((each) => each.iteration < frame.iteration), frame];
        arrange(atEnd);
      },
    };
  }

  function copyButtons(root = document) {
    for (const button of root.querySelectorAll("button[data-copy]")) {
      button.addEventListener("click", async () => {
        const source = document.getElementById(button.dataset.copy);
        try {
          await navigator.clipboard.writeText(source.textContent);
        } catch {
          getSelection().selectAllChildren(source); // where a page may not write to the clipboard: ready for Ctrl-C
          document.execCommand("copy");
        }
        button.textContent = "Copied";
        setTimeout(() => (button.textContent = "Copy"), 2000);
      });
    }
  }

  return { make, formatNumber, formatIteration, showAlarms, createPictures, copyButtons };
})();
