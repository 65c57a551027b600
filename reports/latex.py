r"""LaTeX: booktabs tables, scaled down to the text width if they are wider.

Needs `\usepackage{booktabs,graphicx}`. Common symbols (×, ±, –, µ, …) are written as commands; other non-ASCII
characters are kept and need XeLaTeX or LuaLaTeX.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..result import Result
from ._measured import ALL
from ._summary import tables
from ._table import Cell, Column, Table

SHRINK = r"\resizebox{\ifdim\width>\textwidth\textwidth\else\width\fi}{!}{%"
ESCAPES = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        '"': r"\textquotedbl{}",
        "×": r"$\times$",
        "±": r"$\pm$",
        "·": r"$\cdot$",
        "µ": r"$\mu$",
        "–": r"\textendash{}",
        "—": r"\textemdash{}",
        "…": r"\dots{}",
        **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    }
)


def render(results: Sequence[Result], *, title: str, columns: Sequence[str] = (ALL,)) -> str:
    """Return one `table*` for the measured rows and, if there are any, one for the published ones.

    With the names of numbers as `columns`, the measured table has only these, and no published ones follow.
    """
    return "\n".join(table(shown, title) for shown in tables(results, columns))


def table(shown: Table, title: str) -> str:
    """Return one `table*` with its caption, which `title` begins, and footnotes below the rows."""
    numbered = any(cell.notes for row in shown.rows for cell in row.cells)
    lines = [
        r"% \usepackage{booktabs,graphicx}",
        r"\begin{table*}[t]",
        r"\centering\small",
        rf"\caption{{{escape(_sentence(title, shown.title, shown.caption))}}}",
        SHRINK,
        rf"\begin{{tabular}}{{{''.join('r' if c.numeric else 'l' for c in shown.columns)}}}",
        r"\toprule",
        _line([_header(c) for c in shown.columns]),
        r"\midrule",
        *(_line([_cell(c) for c in row.cells]) for row in shown.rows),
        r"\bottomrule",
        r"\end{tabular}}",
        *(
            rf"\par\footnotesize\raggedright {f'$^{{{i}}}$ ' if numbered else ''}{escape(note)}"
            for i, note in enumerate(shown.notes, 1)
        ),
        r"\end{table*}",
    ]
    return "\n".join(lines) + "\n"


def escape(text: str) -> str:
    """Escape text for LaTeX, on one line."""
    return re.sub("-(?=-)", "-{}", " ".join(text.split()).translate(ESCAPES))


def _sentence(*parts: str) -> str:
    return ". ".join(part.rstrip(".") for part in parts if part) + "."


def _header(column: Column) -> str:
    return escape(column.label)


def _cell(cell: Cell) -> str:
    interval = rf" {{\scriptsize {cell.interval}}}" if cell.interval else ""
    aside = rf" {{\scriptsize {escape(cell.aside)}}}" if cell.aside else ""
    return escape(cell.text) + interval + aside + _marks(cell.notes)


def _marks(notes: tuple[int, ...]) -> str:
    return f"$^{{{','.join(map(str, notes))}}}$" if notes else ""


def _line(cells: Sequence[str]) -> str:
    # A cell that starts with a bracket would be parsed as the optional argument of the preceding line break.
    return " & ".join(f"{{}}{cell}" if cell.startswith("[") else cell for cell in cells) + r" \\"
