// Tooltips on hovering over bubbles, and selection by click.
import { cellText, markRow } from "./cases.js";
import { AXES, machines, PUBLISHED } from "./data.js";
import { make } from "./elements.js";

let ring = () => {};

/** Highlight a case's bubble with a ring; hide the ring if the case has none. */
export function ringCase(index) {
  ring(index);
}

export function listen(canvas, svg, points, xAxis, yAxis) {
  const tooltip = make("div", { class: "tooltip", role: "status", hidden: "" }, canvas);
  const circle = make("circle", { class: "ring", r: 0, visibility: "hidden" }, svg);
  const leave = () => {
    tooltip.hidden = true;
    circle.setAttribute("visibility", "hidden");
  };
  const surround = ({ at: [cx, cy], radius }) => {
    const place = { cx, cy, r: radius + 3, visibility: "visible" };
    for (const [name, value] of Object.entries(place)) circle.setAttribute(name, value);
  };
  const show = (p) => {
    if (!p) return leave();
    surround(p);
    fillTooltip(tooltip, canvas, p, xAxis, yAxis);
  };
  const byIndex = new Map(points.map((p) => [p.index, p]));
  const focused = (event) => byIndex.get(Number(event.target.closest(".point")?.dataset.index));
  const choose = (p) => p && markRow(p.index);
  svg.addEventListener("pointermove", (event) => show(nearest(svg, points, event)));
  svg.addEventListener("pointerleave", leave);
  svg.addEventListener("focusin", (event) => focused(event) && show(focused(event)));
  svg.addEventListener("focusout", leave);
  svg.addEventListener("click", (event) => choose(nearest(svg, points, event)));
  svg.addEventListener("keydown", (event) => event.key === "Enter" && choose(focused(event)));
  ring = (index) => (byIndex.has(index) ? surround(byIndex.get(index)) : leave());
}

/** The point under or near the pointer; null if there is none. */
function nearest(svg, points, event) {
  const frame = svg.getBoundingClientRect();
  const zoom = svg.viewBox.baseVal.width / frame.width;
  const [x, y] = [(event.clientX - frame.left) * zoom, (event.clientY - frame.top) * zoom];
  const away = (p) => Math.max(0, Math.hypot(p.at[0] - x, p.at[1] - y) - p.radius);
  const best = points.reduce((a, b) => (away(b) < away(a) ? b : a));
  return away(best) < 24 ? best : null;
}

function fillTooltip(tooltip, canvas, p, xAxis, yAxis) {
  tooltip.replaceChildren();
  make("b", {}, tooltip, p.model);
  make("code", {}, tooltip, p.id);
  if (machines.length > 1) make("span", {}, tooltip, machines[p.machine]);
  for (const axis of new Set([yAxis, xAxis, AXES.get("params")])) {
    const text = axis && p.values[axis.name] && cellText(p.index, axis.name);
    if (text) make("span", {}, tooltip, `${axis.header}: ${text} ${axis.unit}`);
  }
  if (yAxis.name === PUBLISHED) make("span", {}, tooltip, p.published);
  if (p.share !== undefined) make("span", {}, tooltip, `on the front in ${Math.round(100 * p.share)} % of draws`);
  if (p.limit) make("span", {}, tooltip, p.limit);
  tooltip.hidden = false;
  const [width, height] = [tooltip.offsetWidth, tooltip.offsetHeight];
  const right = p.at[0] + p.radius + 12;
  tooltip.style.left = `${right + width < canvas.clientWidth ? right : Math.max(0, p.at[0] - p.radius - 12 - width)}px`;
  tooltip.style.top = `${Math.max(0, p.at[1] - height / 2)}px`;
}
