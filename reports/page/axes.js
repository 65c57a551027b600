// Scales from values to pixels, and the axes.
import { make } from "./elements.js";

function extent(values) {
  return values.reduce(([low, high], v) => [Math.min(low, v), Math.max(high, v)], [Infinity, -Infinity]);
}

/** Map values to pixels; unless `linear`, logarithmic where they span more than a factor of four. */
export function scale(values, from, to, percent = false, linear = false) {
  const [lowest, highest] = extent(values);
  const log = !percent && !linear && lowest > 0 && highest / lowest > 4;
  const bend = log ? Math.log : (v) => v;
  const span = bend(highest) - bend(lowest) || Math.abs(bend(highest)) * 0.2 || 1;
  let [a, b] = [bend(lowest) - span * 0.09, bend(highest) + span * 0.09];
  if (!log && lowest >= 0) a = Math.max(0, a);
  if (percent) b = Math.min(100.5, b);
  const at = (v) => from + ((bend(v) - a) / (b - a)) * (to - from);
  return { at, ticks: log ? logTicks(Math.exp(a), Math.exp(b)) : linearTicks(a, b) };
}

function linearTicks(low, high) {
  const rough = (high - low) / 6;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((m) => power * m >= rough);
  const count = Math.floor((high - Math.ceil(low / step) * step) / step) + 1;
  return Array.from({ length: count }, (_, i) => Number(((Math.ceil(low / step) + i) * step).toPrecision(12)));
}

function logTicks(low, high) {
  const decades = [];
  for (let d = Math.floor(Math.log10(low)); d <= Math.log10(high); d++) decades.push(10 ** d);
  const inside = (steps) => decades.flatMap((d) => steps.map((m) => d * m)).filter((t) => t >= low && t <= high);
  const fine = inside([1, 2, 5]);
  if (fine.length < 3) return linearTicks(low, high);
  return (fine.length > 9 ? inside([1]) : fine).map((t) => Number(t.toPrecision(3)));
}

/** Draw the grid and its tick labels; without `y` there is no vertical axis. */
export function drawAxes(svg, box, x, y, titles) {
  const group = make("g", { class: "axis" }, svg);
  for (const tick of x.ticks) {
    const at = x.at(tick);
    make("line", { class: "grid", x1: at, x2: at, y1: box.top, y2: box.bottom }, group);
    make("text", { x: at, y: box.bottom + 18, "text-anchor": "middle" }, group, String(tick));
  }
  for (const tick of y ? y.ticks : []) {
    const at = y.at(tick);
    make("line", { class: "grid", x1: box.left, x2: box.right, y1: at, y2: at }, group);
    make("text", { x: box.left - 8, y: at + 4, "text-anchor": "end" }, group, String(tick));
  }
  const middle = { class: "axis-title", x: (box.left + box.right) / 2, y: box.bottom + 38, "text-anchor": "middle" };
  make("text", middle, svg, titles.x);
  if (y) make("text", { class: "axis-title", x: 0, y: box.top - 12 }, svg, titles.y);
}
