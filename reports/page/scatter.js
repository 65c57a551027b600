// The scatter plot of any two metrics: a bubble per case, colored by architecture, with intervals and Pareto front.
import { drawAxes, scale } from "./axes.js";
import { AXES, cases, colors, hidden, machines, PUBLISHED, visible } from "./data.js";
import { byId, canvasWidth, colored, make, makePicture } from "./elements.js";
import { addShares, apart, endOf, pareto, stairs } from "./front.js";
import { nameBubbles } from "./names.js";
import { listen } from "./tooltip.js";

const CROWD = 1500; // beyond so many bubbles each is a dot without its intervals
const SHAPES = [
  "M-2.2 0A2.2 2.2 0 1 0 2.2 0A2.2 2.2 0 1 0-2.2 0Z",
  "M-3-3H3V3H-3Z",
  "M0-4L4 0L0 4L-4 0Z",
  "M0-4L4 3H-4Z",
];
const SIGNS = ["\u25cf", "\u25a0", "\u25c6", "\u25b2"]; // the same shapes, a machine each
const REACHABLE = 300; // up to so many are a stop of the Tab key

export function drawPlot() {
  const canvas = document.querySelector("#plot .canvas");
  const [xAxis, yAxis] = [AXES.get(byId("x").value), AXES.get(byId("y").value)];
  const all = chosen(xAxis, yAxis);
  const points = all.filter((c) => !hidden.has(c.family));
  drawLegend(all);
  canvas.replaceChildren();
  if (!points.length) {
    make("p", { class: "caption" }, canvas, "No case to show.");
    return;
  }
  const width = canvasWidth(canvas);
  const height = Math.round(Math.min(540, Math.max(320, width * 0.5)));
  const box = { left: 46, right: width - 8, top: 28, bottom: height - 46 };
  const svg = makePicture(canvas, "Speed and accuracy", box);
  const known = (name) => points.flatMap((p) => p[name]).filter((v) => v !== null);
  const x = scale(known("x"), box.left, box.right, xAxis.unit === "%");
  const y = scale(known("y"), box.bottom, box.top, yAxis.unit === "%");
  drawAxes(svg, box, x, y, { x: title(xAxis, "←", "→"), y: title(yAxis, "↓", "↑") });
  placePoints(points, x, y, width < 500 ? 15 : 22);
  const { front, corners } = drawFront(svg, box, points, { xAxis, yAxis, x, y });
  addShares(points, xAxis, yAxis);
  const hollow = yAxis.name === PUBLISHED;
  for (const p of [...points].sort((p, q) => q.radius - p.radius)) drawPoint(svg, p, points.length, hollow);
  nameBubbles(svg, box, points, front, corners);
  listen(canvas, svg, points, xAxis, yAxis);
}

function title(axis, towardsLow, towardsHigh) {
  const arrow = { lower: towardsLow, higher: towardsHigh }[axis.better];
  return arrow ? `${axis.label}\u2003${arrow} better` : axis.label;
}

/** The visible cases of the chosen data set that have both metrics; x and y are [value, low, high]. */
function chosen(xAxis, yAxis) {
  const data = byId("dataset").value;
  return cases
    .map((entry, index) => ({ ...entry, index, x: entry.values[xAxis.name], y: entry.values[yAxis.name] }))
    .filter((c) => visible[c.index] && c.data === data && c.x && c.y);
}

function drawLegend(points) {
  const legend = document.querySelector(".legend");
  legend.replaceChildren();
  const shown = [...new Set(points.map((p) => p.machine))].sort((a, b) => a - b);
  for (const machine of shown.length > 1 ? shown : []) {
    make("span", { class: "machine" }, legend, `${SIGNS[machine % SIGNS.length]} ${machines[machine]}`);
  }
  for (const family of [...new Set(points.map((p) => p.family))].sort()) {
    const pressed = { type: "button", "aria-pressed": !hidden.has(family) };
    colored("button", colors[family], pressed, legend, family).addEventListener("click", () => {
      if (!hidden.delete(family)) hidden.add(family);
      drawPlot();
    });
  }
}

/** Add each point's radius and the pixel positions of the point and its interval bounds. */
function placePoints(points, x, y, widest) {
  const largest = Math.max(...points.map((p) => p.values.params?.[0] ?? 0));
  const reach = Math.max(5, widest * Math.min(1, Math.sqrt(100 / points.length)));
  for (const p of points) {
    p.at = [x.at(p.x[0]), y.at(p.y[0])];
    p.bars = [p.x.slice(1).map((v) => v !== null && x.at(v)), p.y.slice(1).map((v) => v !== null && y.at(v))];
    p.radius = largest && p.values.params ? Math.max(4, reach * Math.sqrt(p.values.params[0] / largest)) : 4;
  }
}

/** Draw the front, and the band between the fronts of the better and of the worse ends of all intervals. */
function drawFront(svg, box, points, { xAxis, yAxis, x, y }) {
  const edge = xAxis.better === "higher" ? box.left : box.right;
  const find = (ends) => apart(pareto(points, xAxis, yAxis, ends));
  const steps = (front) => {
    const places = front.map(({ ends }) => [x.at(ends[0]), y.at(ends[1])]);
    return stairs(places, edge);
  };
  const bound = (better) => steps(find((p) => [endOf(xAxis, p.x, better), endOf(yAxis, p.y, better)]));
  const [best, worst] = [bound(true), bound(false)];
  const outline = [...best, ...[...worst].reverse(), [best[0][0], worst[0][1]]]; // upright where the front begins
  make("path", { class: "band", d: `M${outline.join("L")}Z` }, svg);
  const front = find();
  const corners = steps(front);
  make("path", { class: "front", d: `M${corners.join("L")}` }, svg);
  return { front: front.map(({ p }) => p), corners };
}

function drawPoint(svg, p, count, hollow) {
  const kind = hollow ? "point hollow" : "point";
  const group = colored("g", colors[p.family], { class: kind, "data-index": p.index }, svg);
  if (count <= REACHABLE) {
    group.setAttribute("tabindex", 0);
    group.setAttribute("role", "img");
    group.setAttribute("aria-label", `${p.model}, case ${p.id}`);
  }
  const [cx, cy] = p.at;
  if (count <= CROWD) {
    const [[left, right], [low, high]] = p.bars;
    if (left !== false && right !== false) make("line", { x1: left, x2: right, y1: cy, y2: cy }, group);
    if (low !== false && high !== false) make("line", { x1: cx, x2: cx, y1: low, y2: high }, group);
    make("circle", { cx, cy, r: p.radius }, group);
  }
  const shape = { class: "center", d: SHAPES[p.machine % SHAPES.length], transform: `translate(${cx} ${cy})` };
  make("path", shape, group);
}
