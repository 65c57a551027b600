"""The figures that papers and official repositories publish for the measured models."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..result import Result
from ..spec import Published
from ._table import MISSING, Cell, Column, Row, Table, per_view


def table(results: Sequence[Result]) -> Table:
    """Return the table of figures published by papers and official repositories for these models, with sources."""
    rows = list(dict.fromkeys(p for r in results for p in r.published))
    cells = [[get(p) for _, get in _PUBLISHED] for p in rows]
    used = [i for i in range(len(_PUBLISHED)) if any(c[i].text != MISSING for c in cells)]
    return Table(
        title="Published, not measured here",
        columns=tuple(_PUBLISHED[i][0] for i in used),
        rows=tuple(Row(cells=tuple(c[i] for i in used)) for c in cells),
        caption="Numbers as their sources print them: other machines, data and training than the measured ones.",
    )


_PublishedColumn = tuple[Column, Callable[[Published], Cell]]


def _published_number(column: Column, get: Callable[[Published], float | None]) -> _PublishedColumn:
    def cell(row: Published) -> Cell:
        value = get(row)
        if value is None:
            return Cell()
        text = f"{value:.6g}"
        return Cell(text=f"{text}.0" if column.unit == "%" and "." not in text else text, value=value)

    return column, cell


def _published_text(name: str, header: str, get: Callable[[Published], str | None]) -> _PublishedColumn:
    return Column(name=name, header=header, numeric=False), lambda row: Cell(text=get(row) or MISSING)


def _published_gflops(row: Published) -> Cell:
    if row.gflops is None:
        return Cell()
    return Cell(text=per_view(f"{row.gflops:g}", row.views or ""), value=row.gflops)


_PUBLISHED: tuple[_PublishedColumn, ...] = (
    _published_text("model", "model", lambda p: p.model),
    _published_text("dataset", "data set", lambda p: p.dataset),
    _published_text("pretrain", "pre-training", lambda p: p.pretrain),
    _published_number(Column(name="top1", header="top-1", unit="%"), lambda p: p.top1),
    _published_number(Column(name="top5", header="top-5", unit="%"), lambda p: p.top5),
    _published_number(Column(name="params", header="params", unit="M"), lambda p: p.params_m),
    (Column(name="gflops_view", header="GFLOPs/view × views"), _published_gflops),
    _published_text("source", "source", lambda p: p.source),
)
