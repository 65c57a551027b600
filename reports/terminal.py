"""Tables for the terminal: one that fits 100 character cells, or all columns, in parts, so that no number is cut."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator, Sequence
from itertools import zip_longest

from rich.cells import cell_len
from rich.console import Console
from rich.segment import Segment, Segments
from rich.style import Style
from rich.text import Text

from ..result import Result
from . import _compact, _summary, _verdict
from ._table import Cell, Column, Row, Table

WIDE = 200  # character cells of a line if the output is not a terminal
FITTING = 100  # what the report takes of a wider window
GAP = "  "
BOLD, DIM, MARK = Style(bold=True), Style(dim=True), Style(color="yellow")
ENDED = {status: Style(color="red") for status in ("failed", "oom", "timeout")} | {"unsupported": MARK}
SUPERSCRIPTS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


def render(
    results: Sequence[Result],
    *,
    title: str,
    columns: Sequence[str] = (),
    width: int | None = None,
    plain: bool = False,
) -> str:
    """Return the report, in color if standard output is a terminal, unless `plain`.

    By default it is the table of the columns that answer, at most 100 character cells wide; with `columns` it is of
    these numbers, or of `ALL` with all other tables, in parts of `width`: the window's, or 200 without one.
    """
    if columns:
        return show(_summary.tables(results, columns), title=title, width=width, plain=plain)
    width = min(FITTING, width or _console(None, plain).width)
    shown = [_compact.compact(results, width, len(GAP)), *_summary.special(results)]
    return show(shown, title=title, opening=_verdict.sentences(results), width=width, plain=plain)


def show(
    shown: Sequence[Table], *, title: str, opening: Sequence[str] = (), width: int | None = None, plain: bool = False
) -> str:
    """Return sentences and tables as text; `width` and `plain` as in `render`."""
    console = _console(width, plain)
    console.print(Text(title, style=BOLD))
    for sentence in opening:
        first, *rest = _fold(sentence, console.width - 2)
        console.print(Text("\n".join([f"• {first}", *(f"  {line}" for line in rest)])))
    for table in shown:
        _print(console, table)
    assert isinstance(console.file, io.StringIO)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines()) + "\n"


def _console(width: int | None, plain: bool) -> Console:
    terminal = sys.stdout.isatty() and not plain
    return Console(
        file=io.StringIO(), force_terminal=terminal, width=width or (None if terminal else WIDE), highlight=False
    )


def _print(console: Console, table: Table) -> None:
    console.print()
    console.print(Text(table.title, style=BOLD))
    if table.caption:
        console.print(Text(table.caption, style=DIM))
    widths = [_width(table, i, console.width) for i in range(len(table.columns))]
    for part in _parts(table, widths, console.width):
        console.print()
        console.print(Segments(_part(table, part, widths)), end="")
    console.print()
    numbered = bool({i for row in table.rows for cell in row.cells for i in cell.notes})
    for i, note in enumerate(table.notes, 1):
        console.print(Text(f"{_marks((i,))} {note}" if numbered else note, style=DIM))


def _width(table: Table, i: int, width: int) -> int:
    """Return a column's width in character cells: long texts are wrapped, numbers never are."""
    return _compact.column_width(table, i, _compact.fold(width), _margin(table, i))


def _margin(table: Table, i: int) -> int:
    """Return the width that a column's footnote marks need beside its numbers."""
    return max((len(_marks(row.cells[i].notes)) for row in table.rows), default=0)


def _parts(table: Table, widths: Sequence[int], width: int) -> list[list[int]]:
    """Split the columns into parts that fit the width; each repeats the model and, at its end, the case."""
    keys = [i for i, c in enumerate(table.columns) if c.name in ("model", "case_id")]
    room = width - sum(widths[i] + len(GAP) for i in keys) + len(GAP)
    parts: list[list[int]] = [[]]
    for i in (i for i in range(len(widths)) if i not in keys):
        if parts[-1] and sum(widths[j] + len(GAP) for j in [*parts[-1], i]) > room:
            parts.append([])
        parts[-1].append(i)
    return [sorted([*keys, *part]) for part in parts]


def _part(table: Table, part: Sequence[int], widths: Sequence[int]) -> Iterator[Segment]:
    headers = [[Segment(line, BOLD) for line in _header(table.columns[i], widths[i])] for i in part]
    tallest = max(len(header) for header in headers)
    lines = zip(*([Segment("")] * (tallest - len(header)) + header for header in headers), strict=True)
    for line in lines:
        yield from _line([[text] for text in line], table, part, widths)
    yield Segment("─" * (sum(widths[i] for i in part) + len(GAP) * (len(part) - 1)) + "\n")
    margins = {i: _margin(table, i) for i in part}
    for row in table.rows:
        cells = [_cell(table.columns[i], row.cells[i], row, margins[i], widths[i]) for i in part]
        for line in zip_longest(*cells, fillvalue=[Segment("")]):
            yield from _line(line, table, part, widths)


def _cell(column: Column, cell: Cell, row: Row, margin: int, width: int) -> list[list[Segment]]:
    """Return a cell's lines, each a list of styled segments."""
    ended = ENDED.get(row.status)
    marks = Segment(_marks(cell.notes).ljust(margin), MARK)
    if column.numeric:  # marks hang to the right of the numbers, which stay aligned
        more = [Segment(f" {text}", DIM) for text in (cell.interval, cell.aside) if text]
        return [[Segment(cell.text, ended), *more, marks]]
    style = DIM if column.name == "case_id" else MARK if column.name == "flags" else ended
    lines = _fold(cell.full, width - margin)
    return [*([Segment(line, style)] for line in lines[:-1]), [Segment(lines[-1], style), marks]]


def _fold(text: str, width: int) -> list[str]:
    if cell_len(text) <= width:
        return [text]
    return [line.plain.rstrip() for line in Text(text).wrap(Console(), width, overflow="fold")]


def _line(
    cells: Sequence[list[Segment]], table: Table, part: Sequence[int], widths: Sequence[int]
) -> Iterator[Segment]:
    for place, (pieces, i) in enumerate(zip(cells, part, strict=True)):
        space = Segment(" " * (widths[i] - sum(piece.cell_length for piece in pieces)))
        yield from [space, *pieces] if table.columns[i].numeric else [*pieces, space]
        yield Segment(GAP if place + 1 < len(part) else "\n")


def _header(column: Column, width: int) -> list[str]:
    return [*_fold(column.header, width), *([f"({column.unit})"] if column.unit else [])]


def _marks(notes: tuple[int, ...]) -> str:
    return ",".join(map(str, notes)).translate(SUPERSCRIPTS)
