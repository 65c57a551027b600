"""Reports: render results as text, tables or figures. Needs no torch.

Each public file except `compare` is a format with `render(results, *, title)`, which returns text or an image's bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .. import discover
from ..errors import UserError, unknown
from ..result import Result
from ._measured import measured
from ._table import Table
from ._time_breakdown import sentence as time_breakdown

__all__ = ["Table", "formats", "render", "table", "time_breakdown", "write"]

TITLE = "ReelBench"
SELECTING = ("terminal", "markdown", "latex")  # formats that show chosen columns


def formats() -> list[str]:
    """Return the formats of `render`: the public files of this package except `compare`, which takes two runs."""
    return [name for name in discover.names("reports") if name != "compare"]


def render(
    results: Sequence[Result],
    kind: str,
    *,
    title: str = TITLE,
    columns: Sequence[str] = (),
    plain: bool = False,
    status: str = "",
) -> str | bytes:
    """Render results in one of `formats()`, as text or, for `figure`, as bytes (PNG).

    Except in CSV, cases that differ only in their seed are merged into their mean. `columns` are the numbers to show in
    a table, such as `latency_ms`, or `all`; `plain` text for the terminal has no color; `status` is that of `write`.
    Raises UserError if there are no results, the format is unknown, shows no columns, or has nothing to show.
    """
    if kind not in formats():
        raise unknown("report format", kind, formats())
    if not results:
        raise UserError("nothing to report: no results found (run a suite first: `reelbench run quick`)")
    if columns and kind not in SELECTING:
        raise UserError(f"--format {kind} shows no chosen columns: choose {', '.join(SELECTING)}")
    chosen = {"columns": columns} if columns else {}
    uncolored = {"plain": True} if plain and kind == "terminal" else {}
    running = {"status": status} if status and kind == "html" else {}
    made = discover.module("reports", kind, "report format")
    return made.render(_rows(results, kind), title=title, **chosen, **uncolored, **running)


def write(
    results: Sequence[Result], kind: str, to: Path, *, title: str = TITLE, columns: Sequence[str] = (), status: str = ""
) -> list[Path]:
    """Write a report to a file, in existing or new folders, and return the files written.

    For HTML these include the plot as PNG and SVG beside it, if there is one. A figure's format follows the suffix of
    `to`. `status` says in an HTML page how far a suite is that still runs. Seeds are merged and errors raised as in
    `render`.
    """
    from . import figure
    from ._points import plot

    rendered = b""
    if kind != "figure":
        rendered = render(results, kind, title=title, columns=columns, plain=True, status=status)
    results = _rows(results, kind)
    if kind == "figure":
        return [figure.write(results, to, title=title)]
    to.parent.mkdir(parents=True, exist_ok=True)
    to.write_bytes(rendered if isinstance(rendered, bytes) else rendered.encode())
    beside = [".png", ".svg"] if kind == "html" and plot(results) else []
    return [to, *(figure.write(results, to.with_suffix(suffix), title=title) for suffix in beside)]


def table(results: Sequence[Result]) -> Table:
    """Return the table of what was measured, with the seeds of a case merged."""
    return measured(_rows(results, "table"))


def _rows(results: Sequence[Result], kind: str) -> Sequence[Result]:
    """Return the results to show, by machine: merged over the seeds of a case, except in CSV, which lists them all."""
    from ._machines import grouped
    from ._scaling import scaled
    from ._seeds import merge

    results = scaled(results)
    return grouped(results if kind == "csv" else merge(results))
