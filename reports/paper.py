"""A paper's LaTeX table with the usual columns: each model's measured row, followed by its published rows.

GFLOPs are given as per view × views (clips × crops) in both; figures that papers print for a whole protocol are stored
per view, so that the rows compare. Published rows are footnoted and have no speed: it was measured on other machines.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..result import Result
from ..spec import Published
from . import latex
from ._provenance import marks
from ._published import own
from ._table import COLUMNS as NUMBERS
from ._table import Cell, Column, Row, Table, metric_cell, number, per_view, printable, several, views

COLUMNS = (
    Column(name="model", header="model", numeric=False),
    Column(name="pretrain", header="pre-train", numeric=False),
    Column(name="top1", header="top-1", unit="%"),
    Column(name="top5", header="top-5", unit="%"),
    Column(name="views", header="views"),
    Column(name="gflops", header="GFLOPs × views"),
    Column(name="params", header="params", unit="M"),
    Column(name="latency_ms", header="latency", unit="ms"),
    Column(name="throughput_clips_s", header="throughput", unit="clips/s"),
)


def render(results: Sequence[Result], *, title: str) -> str:
    """Return one `table*` of all measured models."""
    return latex.table(table(results), title)


def table(results: Sequence[Result]) -> Table:
    """Return a row per result, followed by the published rows of exactly that model, each once."""
    notes: list[str] = []
    rows: list[Row] = []
    printed: set[Published] = set()
    for result, stale in zip(results, marks(results), strict=True):
        marked = [f"measured on {result.machine}" if several(results) else "", stale]
        rows.append(_measured(result, tuple(_note(text, notes) for text in marked if text)))
        new = [p for p in own(result) if p not in printed]
        printed.update(new)
        rows += [_published(p, notes) for p in new]
    machines = dict.fromkeys(r.machine for r in results if r.machine)
    configurations = dict.fromkeys(
        f"{r.case.device}, {r.case.precision}, {r.case.mode.replace('_', ' ')}" for r in results
    )
    legend = "brackets: 95 % intervals; numbered: published, not measured here"
    caption = "; ".join([*machines, *configurations, legend])
    return Table(
        title="Accuracy and cost", columns=COLUMNS, rows=tuple(rows), caption=printable(caption), notes=tuple(notes)
    )


def _measured(result: Result, marked: tuple[int, ...]) -> Row:
    shown = views(result)
    numbers = {name: _number(result, name) for name in ("top1", "top5", "params", "latency_ms", "throughput_clips_s")}
    gflops = _number(result, "gflops_view")
    cells = (
        Cell(text=printable(result.case.label), notes=marked), Cell(),
        numbers["top1"], numbers["top5"], _views(shown),
        Cell(text=per_view(gflops.text, shown), value=gflops.value) if gflops.value is not None else Cell(),
        numbers["params"], numbers["latency_ms"], numbers["throughput_clips_s"],
    )  # fmt: skip
    return Row(cells=cells, case_id=result.case_id, status=result.status)


def _number(result: Result, name: str) -> Cell:
    return metric_cell(NUMBERS[name], result.metrics.get(name))


def _published(row: Published, notes: list[str]) -> Row:
    view = f", GFLOPs for {row.size}² pixels" if row.size and row.gflops else ""
    marked = (_note(f"published for {row.dataset}{view}: {row.source}", notes),)
    shown = row.views or ""
    gflops = "" if row.gflops is None else per_view(f"{row.gflops:g}", shown)
    cells = (
        Cell(text=row.model, notes=marked), Cell(text=row.pretrain) if row.pretrain else Cell(),
        _plain(row.top1, 1), _plain(row.top5, 1), _views(shown),
        Cell(text=gflops, value=row.gflops) if gflops else Cell(),
        _plain(row.params_m), Cell(), Cell(),
    )  # fmt: skip
    return Row(cells=cells)


def _note(text: str, notes: list[str]) -> int:
    """Return the number of a footnote, which is added if it is new."""
    if text not in notes:
        notes.append(text)
    return notes.index(text) + 1


def _views(views: str) -> Cell:
    return Cell(text=views.replace("x", "×")) if views else Cell()


def _plain(value: float | None, decimals: int | None = None) -> Cell:
    return Cell() if value is None else Cell(text=number(value, decimals), value=value)
