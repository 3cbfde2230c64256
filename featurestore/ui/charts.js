// Small charts, drawn as SVG.

import { s } from "./dom.js";
import { figure } from "./values.js";

/** Return a chart of bars; `title` tells in words what it shows. */
export function bars(counts, title, { height = 120, small = false } = {}) {
  const most = Math.max(1, ...counts), gap = counts.length > 40 ? 0 : small ? 0.12 : 0.08;
  const rects = counts.map((each, at) => {
    const size = each ? Math.max(each / most, 0.025) * 100 : 0;
    return each ? s("rect", { x: at + gap / 2, y: 100 - size, width: 1 - gap, height: size }) : s("rect", { class: "rest", x: at + gap / 2, y: 99, width: 1 - gap, height: 1 });
  });
  return s("svg", { class: small ? "bars small" : "bars", viewBox: `0 0 ${counts.length} 100`, preserveAspectRatio: "none", role: "img", "aria-label": title, height: small ? undefined : height },
    rects);
}

/** A line of the newest values; gaps where a value is not finite. */
export class Spark {
  constructor(title, points) {
    this.points = points;
    this.line = s("path", { class: "line" });
    this.area = s("path", { class: "area" });
    this.node = s("svg", { class: "spark", viewBox: `0 0 ${points - 1} 100`, preserveAspectRatio: "none", role: "img", "aria-label": title }, this.area, this.line);
  }

  draw(values) {
    const shown = values.slice(-this.points), first = this.points - shown.length;
    const most = Math.max(...shown.filter(Number.isFinite), 1e-9);
    let line = "", area = "", begun = null;
    const end = (x) => { if (begun !== null) area += `L${x} 100L${begun} 100Z`; begun = null; };
    shown.forEach((value, at) => {
      const x = first + at;
      if (!Number.isFinite(value)) return end(x - 1);
      const point = `${x} ${(96 - (value / most) * 90).toFixed(1)}`;
      line += `${begun === null ? "M" : "L"}${point}`;
      area += `${begun === null ? "M" : "L"}${point}`;
      begun ??= x;
    });
    end(this.points - 1);
    this.line.setAttribute("d", line);
    this.area.setAttribute("d", area);
  }
}

/** Return the value below which that share of sorted numbers lies. */
export const quantile = (sorted, share) => {
  const at = (sorted.length - 1) * share, low = Math.floor(at);
  return sorted[low] + (sorted[Math.min(low + 1, sorted.length - 1)] - sorted[low]) * (at - low);
};

/** Return bins of sorted numbers. What is far from most others is counted, not drawn: it would flatten the rest. */
export function histogram(sorted, most = 24) {
  const spread = quantile(sorted, 0.95) - quantile(sorted, 0.05), reach = 2 * spread || Infinity;
  const least = Math.max(sorted[0], quantile(sorted, 0.05) - reach), largest = Math.min(sorted[sorted.length - 1], quantile(sorted, 0.95) + reach);
  const drawn = sorted.filter((each) => each >= least && each <= largest);
  const low = drawn[0], high = drawn[drawn.length - 1], whole = drawn.every(Number.isInteger);
  if (low === high) return { counts: [drawn.length], low, high, beyond: sorted.length - drawn.length };
  const bins = whole && high - low < most ? high - low + 1 : most, width = whole && high - low < most ? 1 : (high - low) / bins;
  const counts = new Array(bins).fill(0);
  for (const each of drawn) counts[Math.min(bins - 1, Math.floor((each - low) / width))] += 1;
  return { counts, low, high, beyond: sorted.length - drawn.length };
}

export const rangeWords = ({ low, high }) => (low === high ? figure(low) : `${figure(low)} to ${figure(high)}`);
