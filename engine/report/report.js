// The report's own start: reads the runs that the page holds, and hands them to the parts.
"use strict";

(() => {
  const runs = JSON.parse(document.getElementById("runs").textContent);
  for (const area of document.querySelectorAll("[data-alarms]")) {
    GanglionParts.showAlarms(area, runs[Number(area.dataset.alarms)].document);
  }
  const samples = document.getElementById("samples-area");
  if (samples) GanglionParts.createPictures(samples).show(runs);
  GanglionParts.copyButtons();
  const curves = document.getElementById("curves-area");
  if (curves) GanglionCharts.create(curves).show(runs);
})();
