// Curves, one per case: throughput over batch size, accuracy over the cost of a video's views.
import { drawAxes, scale } from "./axes.js";
import { cases, colors, costs, visible } from "./data.js";
import { byId, canvasWidth, colored, make, makePicture, textWidth } from "./elements.js";

const CURVES = 40; // curves in one picture

export function drawBatches() {
  drawCurves("batches", (c) => c.batches, { x: "clips in a batch", y: "throughput (clips/s)\u2003↑ better" });
}

export function drawBudgets() {
  const cost = byId("cost").value;
  const marks = (c) => {
    const known = c.budgets.filter((mark) => cost in mark.x).map((mark) => ({ ...mark, x: mark.x[cost] }));
    return known.sort((a, b) => a.x - b.x);
  };
  const titles = { x: `${costs[cost]} a video\u2003← better`, y: "accuracy (%)\u2003↑ better", percent: true };
  drawCurves("budgets", marks, titles);
}

/** Draw the curves of a section: the points that `marksOf` returns for each visible case, from `titles.least` on. */
export function drawCurves(section, marksOf, titles) {
  const canvas = document.querySelector(`#${section} .canvas`);
  canvas.replaceChildren();
  byId(section).hidden = !cases.some((c) => c[section]);
  const curves = cases.filter((c, i) => visible[i] && c[section]).map((c) => ({ ...c, marks: marksOf(c) }));
  const shown = curves.filter((c) => c.marks.length >= (titles.least ?? 2)).slice(0, CURVES);
  if (!shown.length) return;
  const width = canvasWidth(canvas);
  const names = Math.min(width * 0.3, Math.max(...shown.map((c) => textWidth(c.model))) + 14);
  const bottom = Math.round(Math.min(420, Math.max(280, width * 0.4)));
  const box = { left: 52, right: width - names, top: 28, bottom };
  const svg = makePicture(canvas, titles.y, box);
  const all = shown.flatMap((c) => c.marks);
  const [xs, ys] = [all.map((m) => m.x), all.flatMap((m) => [m.y, m.low ?? m.y, m.high ?? m.y])];
  const x = scale(xs, box.left, box.right - 8, false, titles.linear);
  const y = scale(ys, box.bottom, box.top, titles.percent, titles.linear);
  drawAxes(svg, box, x, y, titles);
  const taken = [];
  for (const c of shown.sort((a, b) => a.marks.at(-1).y - b.marks.at(-1).y)) drawCurve(svg, c, x, y, box, taken);
}

function drawCurve(svg, { marks, ...c }, x, y, box, taken) {
  const group = colored("g", colors[c.family], { class: "curve" }, svg);
  const labels = marks.map((m) => m.label).filter(Boolean);
  make("title", {}, group, `${c.model}${c.id && `, case ${c.id}`}: ${labels.join(", ")}`);
  make("path", { d: `M${marks.map((m) => [x.at(m.x), y.at(m.y)]).join("L")}` }, group);
  for (const m of marks) {
    const at = x.at(m.x);
    if (m.low !== null && m.high !== null) make("line", { x1: at, x2: at, y1: y.at(m.low), y2: y.at(m.high) }, group);
    make("circle", { cx: at, cy: y.at(m.y), r: 2.5 }, group);
  }
  let base = Math.min(box.bottom, y.at(marks.at(-1).y) + 4);
  while (taken.some((t) => Math.abs(t - base) < 13)) base -= 13; // the lowest name first: the others move up
  taken.push(base);
  make("text", { x: box.right, y: base }, group, c.model);
}
