// The page's data, and which cases and families the reader has switched on and off.
import { byId } from "./elements.js";

export const { axes, cases, colors, costs, curves, machines, page, start } = JSON.parse(byId("data").textContent);
export const AXES = new Map(axes.map((axis) => [axis.name, axis]));
export const PUBLISHED = "top1_published"; // not measured: its marks are hollow
export const visible = cases.map(() => true); // by the table's filter
export const hidden = new Set(); // families switched off in the legend
