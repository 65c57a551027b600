// Tables that sort by a click on a column's header.

const missing = (key) => key === "–";

export function compareKeys(a, b, direction) {
  if (missing(a) || missing(b)) return missing(a) - missing(b); // last, in both directions
  return direction * (typeof a === "number" ? a - b : a.localeCompare(b, undefined, { numeric: true }));
}

export function cellKey({ dataset, textContent }) {
  return dataset.value === undefined ? textContent : Number(dataset.value);
}

function sortRows(table, column, direction) {
  const keyed = [...table.tBodies[0].rows].map((row) => [cellKey(row.cells[column]), row]);
  keyed.sort(([a], [b]) => compareKeys(a, b, direction));
  table.tBodies[0].append(...keyed.map(([, row]) => row));
}

/** Sort by `sort(column, direction)`, 1 ascending and -1 descending; by default sorts the table's own rows. */
export function makeSortable(table, sort = (column, direction) => sortRows(table, column, direction)) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    head.querySelector("button").addEventListener("click", () => {
      const first = head.dataset.first ?? "ascending";
      const second = first === "ascending" ? "descending" : "ascending";
      const order = head.getAttribute("aria-sort") === first ? second : first;
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", order);
      sort(column, order === "ascending" ? 1 : -1);
    });
  });
}
