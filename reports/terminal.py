"""The terminal: tables as wide as the window, split into parts where they do not fit, so that no number is cut."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from ..harness.result import Result
from ._table import Cell, Column, Table, tables

SUFFIX = ".txt"
WIDE = 200  # columns where no terminal says how many it has
STYLES = {"failed": "red", "oom": "red", "timeout": "red", "unsupported": "yellow"}
SUPERSCRIPTS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


def render(results: Sequence[Result], *, title: str, width: int | None = None) -> str:
    """Return the report, in colour when standard output is a terminal. `width` is in character cells."""
    return show(tables(results), title=title, width=width)


def show(shown: Sequence[Table], *, title: str, width: int | None = None) -> str:
    """Return any tables as text for a terminal."""
    terminal = sys.stdout.isatty()
    text = io.StringIO()
    console = Console(file=text, force_terminal=terminal, width=width or (None if terminal else WIDE), highlight=False)
    console.print(Text(title, style="bold"))
    for table in shown:
        _print(console, table)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines()) + "\n"


def _print(console: Console, table: Table) -> None:
    console.print()
    console.print(Text(table.title, style="bold"))
    if table.caption:
        console.print(Text(table.caption, style="dim"))
    for part in _parts(table, console.width):
        console.print(_part(table, part, console.width))
    for i, note in enumerate(table.notes, 1):
        console.print(Text(f"{_marks((i,))} {note}", style="dim"))


def _parts(table: Table, width: int) -> list[list[int]]:
    """Split the columns so that each part fits; every part repeats the model and, at its end, the case."""
    widths = [_width(table, i, width) for i in range(len(table.columns))]
    keys = [i for i, c in enumerate(table.columns) if c.name in ("model", "case_id")]
    room = width - sum(widths[i] for i in keys)
    parts: list[list[int]] = [[]]
    for i in (i for i in range(len(widths)) if i not in keys):
        if parts[-1] and sum(widths[j] for j in parts[-1]) + widths[i] > room:
            parts.append([])
        parts[-1].append(i)
    return [sorted([*keys, *part]) for part in parts]


def _width(table: Table, i: int, width: int) -> int:
    """Return the cells that a column takes, with the space around it."""
    cells = (cell_len(_text(row.cells[i])) for row in table.rows)
    natural = max([*(cell_len(line) for line in _header(table.columns[i]).splitlines()), *cells])
    return 2 + (natural if table.columns[i].numeric else min(natural, _longest(width)))


def _longest(width: int) -> int:
    """Return how long a text may be before it is folded: numbers never are."""
    return max(24, width // 4)


def _part(table: Table, part: Sequence[int], width: int) -> RichTable:
    rich = RichTable(box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False, header_style="bold")
    for i in part:
        column = table.columns[i]
        limit = None if column.numeric else _longest(width)
        justify = "right" if column.numeric else "left"
        rich.add_column(Text(_header(column)), justify=justify, overflow="fold", max_width=limit)
    margins = {i: max((len(_marks(row.cells[i].notes)) for row in table.rows), default=0) for i in part}
    for row in table.rows:
        cells = (_styled(table.columns[i], row.cells[i], margins[i]) for i in part)
        rich.add_row(*cells, style=STYLES.get(row.status, ""))
    return rich


def _styled(column: Column, cell: Cell, margin: int) -> Text:
    text = Text(cell.text, style="dim" if column.name == "case_id" else "")
    text.append(f" {cell.interval}" if cell.interval else "", style="dim")
    # Marks hang to the right of the numbers, which stay aligned.
    return text.append(_marks(cell.notes).ljust(margin) if column.numeric else _marks(cell.notes), style="yellow")


def _header(column: Column) -> str:
    return column.header + _marks(column.notes) + (f"\n({column.unit})" if column.unit else "")


def _text(cell: Cell) -> str:
    return cell.full + _marks(cell.notes)


def _marks(notes: tuple[int, ...]) -> str:
    return ",".join(map(str, notes)).translate(SUPERSCRIPTS)
