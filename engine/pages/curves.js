// The arithmetic of curves: where a value is, what is smoothed or thinned, between which bounds a chart lies.
"use strict";

const GanglionCurves = (() => {
  const LONGEST = 20000; // points of a curve, before a live page thins it

  function nearest(x, wanted) {
    let low = 0;
    let high = x.length - 1;
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (x[middle] <= wanted) low = middle;
      else high = middle;
    }
    return wanted - x[low] <= x[high] - wanted ? low : high;
  }

  function smoothed(y) {
    const reach = Math.max(1, Math.round(y.length / 50));
    return y.map((_, index) => {
      const near = y.slice(Math.max(0, index - reach), index + reach + 1).filter(Number.isFinite);
      return near.length ? near.reduce((sum, value) => sum + value, 0) / near.length : NaN;
    });
  }

  // Of every four points the lowest and the highest, in their order.
  function halved(line) {
    const kept = [];
    for (let start = 0; start < line.x.length; start += 4) {
      const four = [0, 1, 2, 3].map((step) => start + step).filter((index) => index < line.x.length);
      const order = [...four].sort((a, b) => line.y[a] - line.y[b]);
      kept.push(...[...new Set([order[0], order[order.length - 1]])].sort((a, b) => a - b));
    }
    return { x: kept.map((index) => line.x[index]), y: kept.map((index) => line.y[index]) };
  }

  function extend(line, curve) {
    const first = curve.x[0];
    const keep = line.x.length && line.x[line.x.length - 1] >= first ? line.x.findIndex((x) => x >= first) : line.x.length;
    line.x = line.x.slice(0, keep).concat(curve.x); // a run that went back to a checkpoint takes its later points along
    line.y = line.y.slice(0, keep).concat(curve.y.map((value) => (value === null ? NaN : value)));
    if (line.x.length > LONGEST) Object.assign(line, halved(line));
  }

  function bounds(lines, start, end, log) {
    let low = Infinity;
    let high = -Infinity;
    for (const line of lines) {
      for (let index = 0; index < line.x.length; index += 1) {
        const value = line.y[index];
        if (line.x[index] < start || line.x[index] > end || !Number.isFinite(value) || (log && value <= 0)) continue;
        low = Math.min(low, value);
        high = Math.max(high, value);
      }
    }
    if (low > high) return log ? [0.1, 1] : [0, 1];
    if (log) return [low / 1.2, high * 1.2];
    const space = (high - low) * 0.06 || Math.abs(high) * 0.06 || 1;
    return [low - space, high + space];
  }

  return { nearest, smoothed, extend, bounds };
})();
