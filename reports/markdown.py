"""Markdown: pipe tables, aligned so that they are readable as plain text."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rich.cells import cell_len

from ..result import Result
from . import _details, _verdict
from ._measured import ALL
from ._summary import tables
from ._table import Cell, Column, Table

PLAIN = re.compile(r"(?:[^\W_]|[.,/×–-])*")  # most cells are a number


def render(results: Sequence[Result], *, title: str, columns: Sequence[str] = (ALL,)) -> str:
    """Return the measured table, and the published and detail tables that have data, under a heading.

    With the names of numbers as `columns`, the measured table has only these, and there is no other.
    """
    shown = [*tables(results, columns), *(_details.tables(results) if ALL in columns else ())]
    opening = "\n".join(f"- {escape(sentence)}" for sentence in _verdict.sentences(results))
    return "\n\n".join([f"# {escape(title)}", *([opening] if opening else []), *map(table, shown)]) + "\n"


def table(shown: Table) -> str:
    """Return one table with its heading, caption and footnotes."""
    lines = [[_header(c) for c in shown.columns], *([_cell(c) for c in row.cells] for row in shown.rows)]
    widths = [max(3, *(cell_len(line[i]) for line in lines)) for i in range(len(shown.columns))]
    rules = ["-" * (w - 1) + ":" if c.numeric else "-" * w for c, w in zip(shown.columns, widths, strict=True)]
    body = "\n".join(_line(line, widths, shown.columns) for line in (lines[0], rules, *lines[1:]))
    numbered = any(cell.notes for row in shown.rows for cell in row.cells)
    notes = "\n".join(f"{f'{i}.' if numbered else '-'} {escape(note)}" for i, note in enumerate(shown.notes, 1))
    return "\n\n".join(part for part in (f"## {escape(shown.title)}", escape(shown.caption), body, notes) if part)


def escape(text: str) -> str:
    """Escape text for a Markdown table cell, on one line."""
    if PLAIN.fullmatch(text):
        return text
    text = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;")
    text = re.sub(r"([\\|`*\[\]~#])", r"\\\1", text)
    return re.sub(r"(?<![^\W_])_|_(?![^\W_])", r"\\_", text)


def _header(column: Column) -> str:
    return escape(column.label)


def _cell(cell: Cell) -> str:
    interval = f" {cell.interval}" if cell.interval else ""
    aside = f" {escape(cell.aside)}" if cell.aside else ""
    return escape(cell.text) + interval + aside + _marks(cell.notes)


def _marks(notes: tuple[int, ...]) -> str:
    return f"<sup>{','.join(map(str, notes))}</sup>" if notes else ""


def _line(cells: Sequence[str], widths: Sequence[int], columns: Sequence[Column]) -> str:
    padded = (
        " " * (w - cell_len(text)) + text if c.numeric else text + " " * (w - cell_len(text))
        for text, w, c in zip(cells, widths, columns, strict=True)
    )
    return f"| {' | '.join(padded)} |"
