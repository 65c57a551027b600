"""The terminal's own table: the columns that answer, in one table that fits a window, the Pareto front first."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from rich.cells import cell_len

from ..result import Result
from ._measured import conventions, measured
from ._points import SPEEDS, fronts, plot
from ._ranking import summary
from ._table import COLUMNS, MISSING, SETTINGS, Cell, Column, Row, Table

ANSWERS = (
    "top1", "map", "top1_published", "usd_1000_videos", "latency_ms", "throughput_clips_s", "gflops_view", "params",
    "memory_allocated_mib", "memory_resident_mib",
)  # fmt: skip
BATCH = re.compile(r"batch (\d+)")


def compact(results: Sequence[Result], width: int, gap: int) -> Table:
    """Return the columns of the measured table that answer, then as many others as fit `width` character cells.

    Columns are `gap` cells apart. Rows are sorted by Pareto front.
    """
    ordered, front = by_front(results)
    full = _brief(measured(ordered))
    numbers = _fitting(full, width, gap)
    table = _brief(measured(ordered, numbers))  # with the flags of these numbers only
    left = [column.name for column in full.columns if column.numeric and column.name not in numbers]
    more = f"{len(left)} more columns: --all, or --columns {left[0]}" if left else ""
    told = (table.caption.replace("intervals cover", "± covers"), _sorted(front, len(ordered)), more)
    return replace(
        table,
        caption=" · ".join(text for text in told if text),
        notes=tuple(filter(None, (*table.notes, conventions(table.columns), summary(results)))),
    )


def _sorted(front: int, count: int) -> str:
    """Return how many rows are the front, in words; "" without one."""
    return f"the Pareto front first ({front} of {count})" if front else ""


def by_front(results: Sequence[Result]) -> tuple[list[Result], int]:
    """Return the results by Pareto front, the machines apart, and how many rows the first front has.

    Those that are not in the plot follow, the fastest first.
    """
    shown = plot(results)
    places: dict[tuple[str, str], tuple[int, int]] = {}
    for depth, points in enumerate(fronts(shown) if shown else ()):
        places.update({(p.case_id, p.machine): (depth, i) for i, p in enumerate(points)})
    machines = list(dict.fromkeys(r.machine for r in results))
    last = (len(results), 0)

    def key(result: Result) -> tuple[int, tuple[int, int], float]:
        return machines.index(result.machine), places.get((result.case_id, result.machine), last), _cost(result)

    alone = sum(depth == 0 for depth, _ in places.values()) if len(machines) == 1 else 0
    return sorted(results, key=key), alone


def _cost(result: Result) -> float:
    """Return what a result without a place on the plot is sorted by."""
    for name in SPEEDS:
        if name in result.metrics:
            value = result.metrics[name].value
            return -value if COLUMNS[name].better == "higher" else value
    return float("inf")


def _brief(table: Table) -> Table:
    """Return a table without case ids, its settings joined, its numbers short, what makes a row doubtful at its end."""
    table = _joined(table)
    kept = [i for i, column in enumerate(table.columns) if column.name not in ("status", "flags", "case_id")]
    kept += [i for i, column in enumerate(table.columns) if column.name in ("status", "flags")]
    cells = [[_short(row.cells[i]) if table.columns[i].numeric else row.cells[i] for i in kept] for row in table.rows]
    rows = tuple(replace(row, cells=tuple(brief)) for row, brief in zip(table.rows, cells, strict=True))
    batches = [any(row.cells[i].aside for row in rows) for i in range(len(kept))]
    columns = [table.columns[i] for i in kept]
    titled = [replace(c, header=f"{c.header} @ batch") if b else c for c, b in zip(columns, batches, strict=True)]
    return replace(table, columns=tuple(titled), rows=rows)


def _joined(table: Table) -> Table:
    """Return a table with its settings in one column, if there are several of them."""
    at = [i for i, column in enumerate(table.columns) if column.name in SETTINGS]
    if len(at) < 2:
        return table
    rest = [i for i in range(1, len(table.columns)) if i not in at]

    def joined(row: Row) -> Row:
        text = " · ".join(row.cells[i].text for i in at if row.cells[i].text != MISSING)
        return replace(row, cells=(row.cells[0], Cell(text=text or MISSING), *(row.cells[i] for i in rest)))

    columns = (table.columns[0], Column(name="settings", header="settings", numeric=False))
    return replace(table, columns=(*columns, *(table.columns[i] for i in rest)), rows=tuple(map(joined, table.rows)))


def _short(cell: Cell) -> Cell:
    """Return a number as `2.35 ±0.05 @8`: the wider side of its interval, and its batch if the rows differ in that."""
    batch, wider = BATCH.search(cell.aside), ""
    if cell.interval and cell.value is not None:
        low, high = cell.interval.strip("[]").split(", ")
        side = max(cell.value - float(low), float(high) - cell.value)
        wider = f"±{side:.{len(cell.text.partition('.')[2])}f}"
    return replace(cell, interval=wider, aside=f"@{batch[1]}" if batch else "")


def _fitting(table: Table, width: int, gap: int) -> list[str]:
    """Return the names of the numbers to show, those that answer first: as many as fit, at least one."""
    place = {column.name: i for i, column in enumerate(table.columns)}
    texts = [i for i, column in enumerate(table.columns) if not column.numeric]
    others = [column.name for column in table.columns if column.numeric and column.name not in ANSWERS]
    ordered = [*(name for name in ANSWERS if name in place), *others]
    room = width - sum(column_width(table, i, fold(width)) + gap for i in texts) + gap
    found: list[str] = []
    for name in ordered:
        room -= column_width(table, place[name], 0) + gap
        if room < 0 and found:
            break
        found.append(name)
    return found


def fold(width: int) -> int:
    """Return the widest that a column of text gets in a window of `width` character cells."""
    return max(24, width // 4)


def column_width(table: Table, i: int, most: int, margin: int = 0) -> int:
    """Return the character cells that a column needs.

    Texts are folded at `most`, headers break at spaces, numbers never do. A `margin` beside the cells is added.
    """
    column = table.columns[i]
    header = max(map(cell_len, [*column.header.split(), f"({column.unit})" if column.unit else ""]))
    natural = max(header, max((cell_len(row.cells[i].full) for row in table.rows), default=0) + margin)
    return natural if column.numeric else min(natural, most)
