// Latency distributions, one per case: samples, their density, the median and its interval.
import { drawAxes, scale } from "./axes.js";
import { cases, colors, visible } from "./data.js";
import { byId, canvasWidth, colored, make, makePicture, shorten, textWidth } from "./elements.js";

const DISTRIBUTIONS = 40; // distributions in one picture
const ROW = 34; // the height of each
const STEPS = 80; // of a density's curve

export const hasLatencies = (c) => c.kernel && c.samples.length > 4;

export function drawLatencies() {
  const canvas = document.querySelector("#latencies .canvas");
  const all = cases.filter((c, i) => visible[i] && hasLatencies(c));
  all.sort((a, b) => a.values.latency_ms[0] - b.values.latency_ms[0]);
  const shown = all.slice(0, DISTRIBUTIONS);
  byId("more").textContent =
    all.length > DISTRIBUTIONS ? `The ${DISTRIBUTIONS} fastest of ${all.length}; filter the table to see others.` : "";
  canvas.replaceChildren();
  if (!shown.length) return;
  const width = canvasWidth(canvas);
  const names = Math.min(width * 0.35, Math.max(...shown.map((c) => textWidth(c.model))) + 12);
  const box = { left: names, right: width - 8, top: 4, bottom: 4 + shown.length * ROW };
  const svg = makePicture(canvas, "Latency distributions", box);
  const ends = shown.flatMap((c) => [c.samples[0], c.samples.at(-1)]);
  const x = scale(ends, box.left, box.right);
  drawAxes(svg, box, x, null, { x: "latency (ms)\u2003← better" });
  shown.forEach((c, i) => {
    drawLatency(svg, c, x, box.top + i * ROW + 26, names);
  });
}

/** Kernel density of the samples' logarithms, with the given bandwidth; heights are relative to the maximum. */
function density(samples, width) {
  const logs = samples.map(Math.log);
  const [low, high] = [logs[0] - 3 * width, logs.at(-1) + 3 * width];
  const curve = Array.from({ length: STEPS + 1 }, (_, i) => {
    const v = low + ((high - low) * i) / STEPS;
    return [Math.exp(v), logs.reduce((sum, l) => sum + Math.exp(-(((v - l) / width) ** 2) / 2), 0)];
  });
  const highest = Math.max(...curve.map(([, height]) => height));
  return curve.map(([v, height]) => [v, height / highest]);
}

function drawLatency(svg, c, x, base, names) {
  const [median, low, high] = c.values.latency_ms;
  const group = colored("g", colors[c.family], { class: "latency" }, svg);
  make("title", {}, group, `${c.model}, case ${c.id}: ${c.label}`);
  make("text", { x: 0, y: base }, group, shorten(c.model, names - 12));
  const curve = density(c.samples, c.kernel).map(([v, height]) => [
    x.at(v).toFixed(1),
    (base - 2 - 20 * height).toFixed(1),
  ]);
  make("path", { d: `M${curve[0][0]},${base - 2}L${curve.join("L")}L${curve.at(-1)[0]},${base - 2}Z` }, group);
  for (const v of c.samples) make("line", { class: "sample", x1: x.at(v), x2: x.at(v), y1: base, y2: base + 5 }, group);
  const level = { y1: base - 2, y2: base - 2 };
  if (low !== null) make("line", { class: "interval", x1: x.at(low), x2: x.at(high), ...level }, group);
  make("line", { class: "median", x1: x.at(median), x2: x.at(median), y1: base - 22, y2: base + 5 }, svg);
}
