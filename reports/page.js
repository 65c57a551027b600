"use strict";
// Sorts and filters the tables of the page, plots any two metrics against each other, draws the latencies.
// Texts from results only ever become text nodes: nothing here parses HTML.

const { axes, colours, start, cases, columns, rows, commands } = JSON.parse(document.getElementById("data").textContent);
const AXES = new Map(axes.map((axis) => [axis.name, axis]));
const NAMED = 60; // beyond the front, so many bubbles are named
const ROWS = 40; // so many distributions and curves are drawn
const PAGE = 500; // so many rows are shown at once
const CROWD = 1500; // beyond so many bubbles each is a dot without its intervals
const DRAWS = 200; // of all points within their intervals, for the share in which one is on the front
const byId = (id) => document.getElementById(id);
const visible = cases.map(() => true); // by the table's filter
const hidden = new Set(); // families switched off in the legend

// ---- small tools

function make(tag, attributes, parent, text) {
  const svg = parent instanceof SVGElement || tag === "svg";
  const element = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text !== undefined) element.textContent = text;
  parent.append(element);
  return element;
}

function coloured(tag, family, attributes, parent, text) {
  const element = make(tag, attributes, parent, text);
  element.classList.add("coloured");
  element.style.setProperty("--family", colours[family]);
  return element;
}

/** Three digits that count, no exponent: 0.213, 27.9, 1234. */
function digits(value) {
  const decimals = value ? Math.max(0, 2 - Math.floor(Math.log10(Math.abs(value)))) : 0;
  return value.toFixed(Math.min(decimals, 9));
}

function label(axis) {
  return axis.unit ? `${axis.header} (${axis.unit})` : axis.header;
}

function extent(values) {
  return values.reduce(([low, high], v) => [Math.min(low, v), Math.max(high, v)], [Infinity, -Infinity]);
}

const pen = document.createElement("canvas").getContext("2d");
pen.font = `12px ${getComputedStyle(document.body).fontFamily}`;
function textWidth(text) {
  return pen.measureText(text).width;
}

function shorten(text, width) {
  let kept = text;
  while (kept.length > 1 && textWidth(kept) > width) kept = `${kept.slice(0, -2)}…`;
  return kept;
}

// ---- scales

/** Map values to pixels; logarithmic where they span more than a factor of four. */
function scale(values, from, to, percent = false) {
  const [lowest, highest] = extent(values);
  const log = !percent && lowest > 0 && highest / lowest > 4;
  const bend = log ? Math.log : (v) => v;
  const span = bend(highest) - bend(lowest) || Math.abs(bend(highest)) * 0.2 || 1;
  let [a, b] = [bend(lowest) - span * 0.09, bend(highest) + span * 0.09];
  if (!log && lowest >= 0) a = Math.max(0, a);
  if (percent) b = Math.min(100.5, b);
  const at = (v) => from + ((bend(v) - a) / (b - a)) * (to - from);
  const ticks = log ? logTicks(Math.exp(a), Math.exp(b)) : linearTicks(a, b);
  return { at, ticks, low: log ? Math.exp(a) : a, high: log ? Math.exp(b) : b };
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

function drawAxes(svg, box, x, y, titles) {
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

// ---- the plot

function better(axis, towardsLow, towardsHigh) {
  return { lower: `\u2003${towardsLow} better`, higher: `\u2003${towardsHigh} better`, "": "" }[axis.better];
}

function chosen() {
  const [x, y] = [byId("x").value, byId("y").value];
  const data = byId("dataset").value;
  return cases
    .map((entry, index) => ({ ...entry, index, x: entry.values[x], y: entry.values[y] }))
    .filter((c) => visible[c.index] && c.data === data && c.x && c.y);
}

function drawLegend(families) {
  const legend = document.querySelector(".legend");
  legend.replaceChildren();
  for (const family of [...new Set(families)].sort()) {
    const pressed = { type: "button", "aria-pressed": !hidden.has(family) };
    coloured("button", family, pressed, legend, family).addEventListener("click", () => {
      if (!hidden.delete(family)) hidden.add(family);
      draw();
    });
  }
}

/** The points that no other beats on both axes, from the best x on; `ends` picks a point's [x, y]. */
function pareto(points, xAxis, yAxis, ends = (p) => [p.x[0], p.y[0]]) {
  const cost = (axis, value) => (axis.better === "higher" ? -value : value);
  const placed = points.map((p) => ({ p, ends: ends(p) }));
  placed.sort((p, q) => cost(xAxis, p.ends[0]) - cost(xAxis, q.ends[0]) || cost(yAxis, p.ends[1]) - cost(yAxis, q.ends[1]));
  let best = Infinity;
  return placed.filter(({ ends: [, y] }) => cost(yAxis, y) < best && ((best = cost(yAxis, y)), true));
}

/** The better, or the worse, end of an interval. */
function endOf(axis, [value, low, high], better) {
  return ((axis.better === "higher") === better ? high : low) ?? value;
}

/** In how many of the draws within the intervals (95 % of a normal distribution) each point is on the front. */
function frontShares(points, xAxis, yAxis) {
  if (points.length > 300) return;
  let state = 1; // a fixed seed: the same page says the same
  const uniform = () => (state = (Math.imul(state, 1664525) + 1013904223) >>> 0) / 2 ** 32 || 1e-9;
  const normal = () => Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform());
  const drawn = ([value, low, high]) => (low === null || high === null ? value : value + (normal() * (high - low)) / 3.92);
  for (const p of points) p.share = 0;
  for (let i = 0; i < DRAWS; i++) {
    for (const { p } of pareto(points, xAxis, yAxis, (q) => [drawn(q.x), drawn(q.y)])) p.share += 1 / DRAWS;
  }
}

function drawPlot() {
  const canvas = document.querySelector("#plot .canvas");
  const [xAxis, yAxis] = [AXES.get(byId("x").value), AXES.get(byId("y").value)];
  const all = chosen();
  const points = all.filter((c) => !hidden.has(c.family));
  drawLegend(all.map((c) => c.family));
  canvas.replaceChildren();
  if (!points.length) return void make("p", { class: "caption" }, canvas, "No case to show.");
  const width = Math.max(300, canvas.clientWidth);
  const height = Math.round(Math.min(540, Math.max(320, width * 0.5)));
  const box = { left: 46, right: width - 8, top: 28, bottom: height - 46 };
  const svg = make("svg", { viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": "Speed and accuracy" }, canvas);
  const known = (numbers) => numbers.filter((v) => v !== null);
  const x = scale(points.flatMap((p) => known(p.x)), box.left, box.right, xAxis.unit === "%");
  const y = scale(points.flatMap((p) => known(p.y)), box.bottom, box.top, yAxis.unit === "%");
  drawAxes(svg, box, x, y, { x: label(xAxis) + better(xAxis, "←", "→"), y: label(yAxis) + better(yAxis, "↓", "↑") });
  const largest = Math.max(...points.map((p) => p.values.params?.[0] ?? 0));
  const reach = Math.max(5, (width < 500 ? 15 : 22) * Math.min(1, Math.sqrt(100 / points.length)));
  for (const p of points) {
    p.at = [x.at(p.x[0]), y.at(p.y[0])];
    p.bars = [p.x.slice(1).map((v) => v !== null && x.at(v)), p.y.slice(1).map((v) => v !== null && y.at(v))];
    p.radius = largest && p.values.params ? Math.max(4, reach * Math.sqrt(p.values.params[0] / largest)) : 4;
  }
  const edge = xAxis.better === "higher" ? box.left : box.right;
  const place = ({ ends }) => [x.at(ends[0]), y.at(ends[1])];
  const bound = (better) => {
    const ends = (p) => [endOf(xAxis, p.x, better), endOf(yAxis, p.y, better)];
    return stairs(pareto(points, xAxis, yAxis, ends).map(place), edge);
  };
  make("path", { class: "band", d: `M${[...bound(true), ...bound(false).reverse()].join("L")}Z` }, svg);
  const steps = pareto(points, xAxis, yAxis);
  const front = steps.map(({ p }) => p);
  const corners = stairs(steps.map(place), edge);
  make("path", { class: "front", d: `M${corners.join("L")}` }, svg);
  frontShares(points, xAxis, yAxis);
  for (const p of [...points].sort((p, q) => q.radius - p.radius)) drawPoint(svg, p, points.length);
  nameBubbles(svg, box, points, front, corners);
  listen(canvas, svg, points, xAxis, yAxis);
}

/** Between two points of a front the lesser of them is what can be had: it steps. */
function stairs(places, edge) {
  return places.flatMap((at, i) => [at, [i + 1 < places.length ? places[i + 1][0] : edge, at[1]]]);
}

function drawPoint(svg, p, count) {
  const group = coloured("g", p.family, { class: "point", "data-index": p.index }, svg);
  if (count <= 300) {
    group.setAttribute("tabindex", 0);
    group.setAttribute("role", "img");
    group.setAttribute("aria-label", `${p.model}, case ${p.id}`);
  }
  if (count > CROWD) return void make("circle", { class: "centre", cx: p.at[0], cy: p.at[1], r: 2.2 }, group);
  const [[left, right], [low, high]] = p.bars;
  if (left !== false && right !== false) make("line", { x1: left, x2: right, y1: p.at[1], y2: p.at[1] }, group);
  if (low !== false && high !== false) make("line", { x1: p.at[0], x2: p.at[0], y1: low, y2: high }, group);
  make("circle", { cx: p.at[0], cy: p.at[1], r: p.radius }, group);
  make("circle", { class: "centre", cx: p.at[0], cy: p.at[1], r: 2.2 }, group);
}

/** Name the front first, then the others, each at its nearest free place; without one a name is left to the hover. */
function nameBubbles(svg, box, points, front, corners) {
  const upright = ({ at, bars: [, [low, high]] }) => [at[0] - 1, Math.min(low, high), at[0] + 1, Math.max(low, high)];
  const level = ({ at, bars: [[low, high]] }) => [Math.min(low, high), at[1] - 1, Math.max(low, high), at[1] + 1];
  const bubble = ({ at, radius: r }) => [at[0] - r, at[1] - r, at[0] + r, at[1] + r];
  const taken = [bubble, upright, level].flatMap((box) => points.map(box));
  for (let i = 1; i < corners.length; i++) {
    const [[x0, y0], [x1, y1]] = [corners[i - 1], corners[i]];
    taken.push([Math.min(x0, x1), Math.min(y0, y1) - 1, Math.max(x0, x1), Math.max(y0, y1) + 1]);
  }
  const rest = [...points].sort((p, q) => q.y[0] - p.y[0]).slice(0, NAMED);
  for (const p of new Set([...front, ...rest])) {
    const place = freePlace(p, textWidth(p.model) + 4, taken, [0, box.top - 8, box.right + 8, box.bottom]);
    if (!place) continue;
    make("text", { class: "name", x: place[0] + 2, y: place[3] - 4 }, svg, p.model);
    taken.push(place);
  }
}

const SIDES = [[1, 0], [-1, 0], [1, -1], [1, 1], [-1, -1], [-1, 1], [0, -1], [0, 1]];
function freePlace({ at, radius }, width, taken, within) {
  const [w, h] = [width / 2, 8];
  for (const gap of [5, 13]) {
    for (const [dx, dy] of SIDES) {
      const reach = radius * (dx && dy ? 0.7 : 1) + gap; // towards a corner the circle gives way
      const [x, y] = [at[0] + dx * (reach + w), at[1] + dy * (reach + h)];
      const [x0, y0, x1, y1] = [x - w, y - h, x + w, y + h];
      const inside = x0 >= within[0] && y0 >= within[1] && x1 <= within[2] && y1 <= within[3];
      if (inside && !taken.some((t) => t[0] < x1 && t[2] > x0 && t[1] < y1 && t[3] > y0)) return [x0, y0, x1, y1];
    }
  }
  return null;
}

// ---- hovering and choosing

function listen(canvas, svg, points, xAxis, yAxis) {
  const tooltip = make("div", { class: "tooltip", role: "status", hidden: "" }, canvas);
  const ring = make("circle", { class: "ring", r: 0, visibility: "hidden" }, svg);
  const leave = () => {
    tooltip.hidden = true;
    ring.setAttribute("visibility", "hidden");
  };
  const show = (p, withText = true) => {
    for (const [name, value] of Object.entries({ cx: p.at[0], cy: p.at[1], r: p.radius + 3, visibility: "visible" })) {
      ring.setAttribute(name, value);
    }
    if (withText) fillTooltip(tooltip, canvas, p, xAxis, yAxis);
  };
  const nearest = (event) => {
    const frame = svg.getBoundingClientRect();
    const zoom = svg.viewBox.baseVal.width / frame.width;
    const [x, y] = [(event.clientX - frame.left) * zoom, (event.clientY - frame.top) * zoom];
    const away = (p) => Math.max(0, Math.hypot(p.at[0] - x, p.at[1] - y) - p.radius);
    const best = points.reduce((a, b) => (away(b) < away(a) ? b : a));
    return away(best) < 24 ? best : null;
  };
  const byIndex = new Map(points.map((p) => [p.index, p]));
  const focused = (event) => byIndex.get(Number(event.target.closest(".point")?.dataset.index));
  svg.addEventListener("pointermove", (event) => (nearest(event) ? show(nearest(event)) : leave()));
  svg.addEventListener("pointerleave", leave);
  svg.addEventListener("focusin", (event) => focused(event) && show(focused(event)));
  svg.addEventListener("focusout", leave);
  svg.addEventListener("click", (event) => nearest(event) && markRow(nearest(event).index));
  svg.addEventListener("keydown", (event) => event.key === "Enter" && focused(event) && markRow(focused(event).index));
  ringFromTable = (index) => (byIndex.has(index) ? show(byIndex.get(index), false) : leave());
}

let ringFromTable = () => {};

function fillTooltip(tooltip, canvas, p, xAxis, yAxis) {
  tooltip.replaceChildren();
  make("b", {}, tooltip, p.model);
  make("code", {}, tooltip, p.id);
  for (const axis of new Set([yAxis, xAxis, AXES.get("params")])) {
    const text = axis && p.values[axis.name] && cellText(p.index, axis.name);
    if (text) make("span", {}, tooltip, `${axis.header}: ${text} ${axis.unit}`);
  }
  if (p.share !== undefined) make("span", {}, tooltip, `on the front in ${Math.round(100 * p.share)} % of draws`);
  if (p.limit) make("span", {}, tooltip, p.limit);
  tooltip.hidden = false;
  const [width, height] = [tooltip.offsetWidth, tooltip.offsetHeight];
  const right = p.at[0] + p.radius + 12;
  tooltip.style.left = `${right + width < canvas.clientWidth ? right : Math.max(0, p.at[0] - p.radius - 12 - width)}px`;
  tooltip.style.top = `${Math.max(0, p.at[1] - height / 2)}px`;
}

function markRow(index) {
  document.querySelectorAll("tr.marked").forEach((row) => row.classList.remove("marked"));
  const row = reveal(index);
  row.classList.add("marked");
  row.scrollIntoView({ block: "center", behavior: "smooth" });
}

// ---- curves

/** One line a case: `points` are [x, y, low, high, name]. */
function drawCurves(section, curves, titles) {
  const canvas = document.querySelector(`#${section} .canvas`);
  canvas.replaceChildren();
  byId(section).hidden = !cases.some((c) => c[{ batches: "batch_sweep", budgets: "view_budget" }[section]]);
  const shown = curves.filter((c) => c.points.length > 1).slice(0, ROWS);
  if (!shown.length) return;
  const width = Math.max(300, canvas.clientWidth);
  const names = Math.min(width * 0.3, Math.max(...shown.map((c) => textWidth(c.model))) + 14);
  const box = { left: 52, right: width - names, top: 28, bottom: Math.round(Math.min(420, Math.max(280, width * 0.4))) };
  const svg = make("svg", { viewBox: `0 0 ${width} ${box.bottom + 46}`, role: "group", "aria-label": titles.y }, canvas);
  const all = shown.flatMap((c) => c.points);
  const x = scale(all.map((p) => p[0]), box.left, box.right - 8);
  const y = scale(all.flatMap((p) => [p[1], p[2] ?? p[1], p[3] ?? p[1]]), box.bottom, box.top, titles.percent);
  drawAxes(svg, box, x, y, titles);
  const taken = [];
  for (const c of [...shown].sort((a, b) => a.points.at(-1)[1] - b.points.at(-1)[1])) drawCurve(svg, c, x, y, box, taken);
}

function drawCurve(svg, c, x, y, box, taken) {
  const group = coloured("g", c.family, { class: "curve" }, svg);
  make("title", {}, group, `${c.model}, case ${c.id}: ${c.points.map((p) => `${p[4]} ${digits(p[1])}`).join(", ")}`);
  make("path", { d: `M${c.points.map((p) => [x.at(p[0]), y.at(p[1])]).join("L")}` }, group);
  for (const [at, value, low, high] of c.points) {
    if (low !== null && high !== null) make("line", { x1: x.at(at), x2: x.at(at), y1: y.at(low), y2: y.at(high) }, group);
    make("circle", { cx: x.at(at), cy: y.at(value), r: 2.5 }, group);
  }
  let base = Math.min(box.bottom, y.at(c.points.at(-1)[1]) + 4);
  while (taken.some((t) => Math.abs(t - base) < 13)) base -= 13; // the lowest name first: the others move up
  taken.push(base);
  make("text", { x: box.right, y: base }, group, c.model);
}

function drawBatches() {
  const point = (row) => [row.batch, row.clips_s, row.high && (row.batch * 1e3) / row.high, row.low && (row.batch * 1e3) / row.low, `batch ${row.batch}:`];
  const curves = cases.filter((c, i) => visible[i] && c.batch_sweep).map((c) => ({ ...c, points: c.batch_sweep.map(point) }));
  drawCurves("batches", curves, { x: "clips in a batch", y: "throughput (clips/s)\u2003↑ better" });
}

const COSTS = { gflops_video: "GFLOPs", ms_video: "milliseconds", j_video: "joules" };
function drawBudgets() {
  const cost = byId("cost").value || "gflops_video";
  const joules = (c, row) => row.count * (c.values.energy_j_clip?.[0] ?? NaN);
  const point = (c) => (row) => [cost === "j_video" ? joules(c, row) : row[cost], row.accuracy, row.low, row.high, `${row.views}:`];
  const curves = cases
    .filter((c, i) => visible[i] && c.view_budget)
    .map((c) => ({ ...c, points: c.view_budget.map(point(c)).filter((p) => p[0] > 0).sort((p, q) => p[0] - q[0]) }));
  drawCurves("budgets", curves, { x: `${COSTS[cost]} a video\u2003← better`, y: "accuracy (%)\u2003↑ better", percent: true });
}

// ---- the latencies

function quantile(sorted, share) {
  const at = share * (sorted.length - 1);
  const low = Math.floor(at);
  return sorted[low] + (sorted[Math.min(low + 1, sorted.length - 1)] - sorted[low]) * (at - low);
}

/** Gaussian kernels of Silverman's width, on logarithms; heights relative to the highest. */
function density(sorted) {
  const logs = sorted.map(Math.log);
  const mean = logs.reduce((a, b) => a + b) / logs.length;
  const deviation = Math.sqrt(logs.reduce((a, v) => a + (v - mean) ** 2, 0) / logs.length);
  const middle = (quantile(logs, 0.75) - quantile(logs, 0.25)) / 1.34;
  const width = Math.max(0.9 * Math.min(deviation, middle || deviation) * logs.length ** -0.2, 0.002);
  const [low, high] = [logs[0] - 3 * width, logs.at(-1) + 3 * width];
  const curve = Array.from({ length: 81 }, (_, i) => {
    const v = low + ((high - low) * i) / 80;
    return [Math.exp(v), logs.reduce((sum, l) => sum + Math.exp(-(((v - l) / width) ** 2) / 2), 0)];
  });
  const highest = Math.max(...curve.map(([, height]) => height));
  return curve.map(([v, height]) => [v, height / highest]);
}

function drawLatencies() {
  const canvas = document.querySelector("#latencies .canvas");
  const all = cases.filter((c, i) => visible[i] && c.samples.length > 4);
  all.sort((a, b) => a.values.latency_ms[0] - b.values.latency_ms[0]);
  const shown = all.slice(0, ROWS);
  byId("more").textContent = all.length > ROWS ? `The ${ROWS} fastest of ${all.length}; filter the table to see others.` : "";
  canvas.replaceChildren();
  if (!shown.length) return;
  const width = Math.max(300, canvas.clientWidth);
  const names = Math.min(width * 0.35, Math.max(...shown.map((c) => textWidth(c.model))) + 12);
  const box = { left: names, right: width - 8, top: 4, bottom: 4 + shown.length * 34 };
  const view = { viewBox: `0 0 ${width} ${box.bottom + 46}`, role: "group", "aria-label": "Latency distributions" };
  const svg = make("svg", view, canvas);
  const x = scale(shown.flatMap((c) => [c.samples[0], c.samples.at(-1)]), box.left, box.right);
  drawAxes(svg, box, x, null, { x: "latency (ms)\u2003← better" });
  shown.forEach((c, i) => drawLatency(svg, c, x, box.top + i * 34 + 26, names));
}

function drawLatency(svg, c, x, base, names) {
  const [median, low, high] = c.values.latency_ms;
  const group = coloured("g", c.family, { class: "latency" }, svg);
  const tail = `90 % under ${digits(quantile(c.samples, 0.9))}, 99 % under ${digits(quantile(c.samples, 0.99))} ms`;
  make("title", {}, group, `${c.model}, case ${c.id}: median ${digits(median)} ms, ${tail}`);
  make("text", { x: 0, y: base }, group, shorten(c.model, names - 12));
  const curve = density(c.samples).map(([v, height]) => [x.at(v).toFixed(1), (base - 2 - 20 * height).toFixed(1)]);
  make("path", { d: `M${curve[0][0]},${base - 2}L${curve.join("L")}L${curve.at(-1)[0]},${base - 2}Z` }, group);
  for (const v of c.samples) make("line", { class: "sample", x1: x.at(v), x2: x.at(v), y1: base, y2: base + 5 }, group);
  if (low !== null) make("line", { class: "interval", x1: x.at(low), x2: x.at(high), y1: base - 2, y2: base - 2 }, group);
  make("line", { class: "median", x1: x.at(median), x2: x.at(median), y1: base - 22, y2: base + 5 }, svg);
}

// ---- the tables

const missing = (key) => key === "–";

function compareKeys(a, b, direction) {
  if (missing(a) || missing(b)) return missing(a) - missing(b); // last, in both directions
  return direction * (typeof a === "number" ? a - b : a.localeCompare(b, undefined, { numeric: true }));
}

function cellKey({ dataset, textContent }) {
  return dataset.value === undefined ? textContent : Number(dataset.value);
}

function sortRows(table, column, direction) {
  const keyed = [...table.tBodies[0].rows].map((row) => [cellKey(row.cells[column]), row]);
  keyed.sort(([a], [b]) => compareKeys(a, b, direction));
  table.tBodies[0].append(...keyed.map(([, row]) => row));
}

function makeSortable(table) {
  const sort = table === measured ? sortCases : (column, direction) => sortRows(table, column, direction);
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    head.querySelector("button").addEventListener("click", () => {
      const first = head.dataset.first ?? "ascending";
      const second = first === "ascending" ? "descending" : "ascending";
      const order = head.getAttribute("aria-sort") === first ? second : first;
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", order);
      sort(column, order === "ascending" ? 1 : -1);
    });
  });
}

// The measured table keeps its rows here; of many cases a row is made when it is first shown.
const measured = document.querySelector("#measured table");
const made = new Map([...measured.tBodies[0].rows].map((row) => [Number(row.dataset.index), row]));
let order = cases.map((_, index) => index);
let room = PAGE;

function rowOf(index) {
  if (!made.has(index)) made.set(index, makeRow(index));
  return made.get(index);
}

function makeRow(index) {
  const [status, ...cells] = rows[index];
  const row = make("tr", { "data-index": index, class: status }, document.createDocumentFragment());
  cells.forEach(([text = "", interval = "", value = null, notes = []], i) => {
    const cell = make("td", columns[i].numeric ? { class: "number" } : {}, row);
    if (value !== null) cell.dataset.value = value;
    const linked = columns[i].name === "case_id" && make("a", { href: `#case-${index}` }, cell);
    linked ? make("code", {}, linked, text) : cell.append(text);
    if (interval) make("small", {}, cell, ` ${interval}`);
    notes.forEach((note) => make("a", { href: `#note-${note}` }, make("sup", {}, cell), String(note)));
  });
  return row;
}

function caseKey(index, column) {
  if (!rows.length) return cellKey(rowOf(index).cells[column]);
  const [text = "", , value = null] = rows[index][column + 1];
  return value ?? text;
}

/** What a cell says, its footnotes left out. */
function cellText(index, name) {
  const column = columns.findIndex((c) => c.name === name);
  const nodes = [...rowOf(index).cells[column].childNodes].filter((node) => node.nodeName !== "SUP");
  return nodes.map((node) => node.textContent).join("");
}

function showRows() {
  const shown = order.filter((index) => visible[index]);
  measured.tBodies[0].replaceChildren(...shown.slice(0, room).map(rowOf));
  byId("next").hidden = shown.length <= room;
  byId("next").textContent = `Show more of ${shown.length} rows`;
}

function reveal(index) {
  const place = order.filter((i) => visible[i]).indexOf(index);
  if (place >= room) room = place + PAGE;
  showRows();
  return rowOf(index);
}

function sortCases(column, direction) {
  const keys = order.map((index) => [caseKey(index, column), index]);
  order = keys.sort(([a], [b]) => compareKeys(a, b, direction)).map(([, index]) => index);
  showRows();
}

function makeFilter() {
  const textOf = (index) =>
    rows.length ? rows[index].slice(1).map((cell) => cell.slice(0, 2).join(" ")).join(" ") : rowOf(index).textContent;
  const texts = cases.map((_, index) => `${textOf(index)} ${rows.length ? rows[index][0] : ""}`.toLowerCase());
  const apply = () => {
    const words = byId("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
    texts.forEach((text, index) => (visible[index] = words.every((word) => text.includes(word))));
    byId("count").value = `${visible.filter(Boolean).length} of ${cases.length} cases`;
    room = PAGE;
    showRows();
    draw();
  };
  byId("filter").addEventListener("input", apply);
  byId("filter").form.addEventListener("submit", (event) => event.preventDefault());
  byId("count").value = `${cases.length} cases`;
  byId("next").addEventListener("click", () => {
    room += PAGE;
    showRows();
  });
  const row = (event) => event.target.closest("tr")?.dataset.index;
  measured.tBodies[0].addEventListener("pointerover", (event) => ringFromTable(Number(row(event))));
  measured.tBodies[0].addEventListener("pointerleave", () => ringFromTable(-1));
}

// ---- the page

function fillSelect(select, options, value) {
  for (const [name, text] of options) make("option", { value: name }, select, text);
  select.value = value;
  select.closest("label").hidden = options.length < 2;
  select.addEventListener("change", draw);
}

function makeTheme() {
  const root = document.documentElement;
  const preferred = () => (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
  byId("theme").addEventListener("click", () => {
    root.dataset.theme = (root.dataset.theme ?? preferred()) === "dark" ? "light" : "dark";
  });
}

/** The commands of the first page of cases stand in the page, the others are made when they are asked for. */
function makeCommand(anchor) {
  const index = Number(/^case-(\d+)$/.exec(anchor)?.[1] ?? -1);
  const text = commands[index - (cases.length - commands.length)];
  if (byId(anchor) || !text) return;
  const details = make("details", { id: anchor }, byId("reproduce"));
  make("summary", {}, details, `${cases[index].model} ${cases[index].id}`);
  make("pre", {}, details, text);
  details.scrollIntoView();
}

function openTarget() {
  makeCommand(location.hash.slice(1));
  const target = byId(location.hash.slice(1));
  if (target instanceof HTMLDetailsElement) target.open = true;
}

function draw() {
  if (start.x) drawPlot();
  drawLatencies();
  drawBatches();
  drawBudgets();
}

document.querySelectorAll("table.sortable").forEach(makeSortable);
makeFilter();
showRows();
makeTheme();
const joules = cases.some((c) => c.view_budget && c.values.energy_j_clip);
const costs = Object.entries(COSTS).filter(([name]) => name !== "j_video" || joules);
fillSelect(byId("cost"), costs.map(([name, text]) => [name, `${text} a video`]), "gflops_video");
byId("plot").hidden = !start.x;
byId("latencies").hidden = !cases.some((c) => c.samples.length > 4);
if (start.x) {
  const options = axes.map((axis) => [axis.name, label(axis)]);
  fillSelect(byId("x"), options, start.x);
  fillSelect(byId("y"), options, start.y);
  fillSelect(byId("dataset"), [...new Set(cases.map((c) => c.data))].map((d) => [d, d]), start.data);
}
draw();
addEventListener("resize", draw);
addEventListener("hashchange", openTarget);
openTarget();
