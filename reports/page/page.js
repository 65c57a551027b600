// Entry point: wires the tables' sorting and filtering to the plots, which follow filter, axes and window size.
import { makeTable, showCommand } from "./cases.js";
import { drawBatches, drawBudgets } from "./curves.js";
import { axes, cases, costs, start } from "./data.js";
import { byId, make } from "./elements.js";
import { drawLatencies, hasLatencies } from "./latencies.js";
import { drawPlot } from "./scatter.js";
import { makeSortable } from "./tables.js";
import { makeTheme } from "./theme.js";
import { ringCase } from "./tooltip.js";

function draw() {
  if (start.x) drawPlot();
  drawLatencies();
  drawBatches();
  drawBudgets();
}

function fillSelect(select, options, value) {
  for (const [name, text] of options) make("option", { value: name }, select, text);
  select.value = value;
  select.closest("label").hidden = options.length < 2;
  select.addEventListener("change", draw);
}

function fillSelects() {
  const priced = Object.entries(costs).map(([name, unit]) => [name, `${unit} a video`]);
  fillSelect(byId("cost"), priced, priced[0]?.[0]);
  if (!start.x) return;
  const metrics = axes.map((axis) => [axis.name, axis.label]);
  fillSelect(byId("x"), metrics, start.x);
  fillSelect(byId("y"), metrics, start.y);
  const names = [...new Set(cases.map((c) => c.data))];
  const sets = names.map((name) => [name, name]);
  fillSelect(byId("dataset"), sets, start.data);
}

function openTarget() {
  const anchor = location.hash.slice(1);
  showCommand(anchor);
  const target = byId(anchor);
  if (target instanceof HTMLDetailsElement) target.open = true;
}

for (const table of document.querySelectorAll("section:not(#measured) table.sortable")) makeSortable(table);
makeTable(draw, ringCase);
makeTheme();
fillSelects();
byId("plot").hidden = !start.x;
byId("latencies").hidden = !cases.some(hasLatencies);
draw();
addEventListener("resize", draw);
addEventListener("hashchange", openTarget);
openTarget();
