// The table of measured metrics, a row per case: its filter applies to all plots, its rows are added page by page.
import { cases, page, visible } from "./data.js";
import { byId } from "./elements.js";
import { cellKey, compareKeys, makeSortable } from "./tables.js";

const table = document.querySelector("#measured table");
const columns = [...table.tHead.rows[0].cells].map((head) => head.dataset.name);
// Rows by case index; those after the first page stay in a template, so that the browser does not lay them out.
const rows = [...table.tBodies[0].rows, ...byId("rows").content.querySelectorAll("tr")];
let order = rows.map((_, index) => index);
let room = page;

/** A cell's text without its footnote marks. */
export function cellText(index, name) {
  const nodes = [...rows[index].cells[columns.indexOf(name)].childNodes].filter((node) => node.nodeName !== "SUP");
  return nodes.map((node) => node.textContent).join("");
}

/** Bring a case's row into view and mark it. */
export function markRow(index) {
  for (const row of document.querySelectorAll("tr.marked")) row.classList.remove("marked");
  const place = order.filter((i) => visible[i]).indexOf(index);
  if (place >= room) room = place + page;
  showRows();
  rows[index].classList.add("marked");
  rows[index].scrollIntoView({ block: "center", behavior: "smooth" });
}

/** Make the table sort, filter and grow; calls `narrowed()` on filtering, `pointed(index)` on hovering over a row. */
export function makeTable(narrowed, pointed) {
  makeSortable(table, sortCases);
  makeFilter(narrowed);
  byId("next").addEventListener("click", () => {
    room += page;
    showRows();
  });
  const body = table.tBodies[0];
  body.addEventListener("pointerover", (event) => pointed(Number(event.target.closest("tr")?.dataset.index)));
  body.addEventListener("pointerleave", () => pointed(-1));
  showRows();
}

/** Add the commands of further cases on demand; those of the first page of cases are in the HTML. */
export function showCommand(anchor) {
  const details = anchor && byId("commands").content.getElementById(anchor);
  if (!details) return;
  byId("reproduce").append(details);
  details.scrollIntoView();
}

function showRows() {
  const shown = order.filter((index) => visible[index]);
  table.tBodies[0].replaceChildren(...shown.slice(0, room).map((index) => rows[index]));
  byId("next").hidden = shown.length <= room;
  byId("next").textContent = `Show more of ${shown.length} rows`;
}

function sortCases(column, direction) {
  const keys = order.map((index) => [cellKey(rows[index].cells[column]), index]);
  order = keys.sort(([a], [b]) => compareKeys(a, b, direction)).map(([, index]) => index);
  showRows();
}

function makeFilter(narrowed) {
  const texts = rows.map((row) => row.textContent.toLowerCase());
  const apply = () => {
    const words = byId("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
    texts.forEach((text, index) => {
      visible[index] = words.every((word) => text.includes(word));
    });
    byId("count").value = `${visible.filter(Boolean).length} of ${cases.length} cases`;
    room = page;
    showRows();
    narrowed();
  };
  byId("filter").addEventListener("input", apply);
  byId("filter").form.addEventListener("submit", (event) => event.preventDefault());
  byId("count").value = `${cases.length} cases`;
}
