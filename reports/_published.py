"""The figures that papers and official repositories publish for the measured models."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

from ..errors import unknown
from ..result import Result
from ..spec import Published
from ._table import COLUMNS, MISSING, Cell, Column, Row, Table, per_view, printable, views

CLOSE = 0.01
PUBLISHED = Column(
    name="top1_published", header="top-1 (published)", kind="share", unit="%", decimals=1, better="higher"
)


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


def own(result: Result) -> list[Published]:
    """Return the published rows of exactly the model that was measured, not of its siblings."""
    return [row for row in result.published if (row.address or row.model) == result.case.model]


def chosen(results: Sequence[Result], dataset: str) -> list[Result]:
    """Return the results with the published rows of one data set only. Raises UserError if there are none."""
    found = [replace(r, published=tuple(row for row in r.published if row.dataset == dataset)) for r in results]
    if not any(result.published for result in found):
        raise unknown("data set of published rows", dataset, {row.dataset for r in results for row in r.published})
    return found


def accuracies(results: Sequence[Result]) -> list[Published | None]:
    """Return the published row whose top-1 stands for each case without an accuracy of its own; None for the others.

    It is of the same model, clip and views, and of the data set of which there are most such rows; of several, which
    differ in their pre-training, it is the best one.
    """
    found = [_comparable(result) for result in results]
    counts = Counter(dataset for rows in found for dataset in dict.fromkeys(row.dataset for row in rows))
    if not counts:
        return [None] * len(results)
    dataset = counts.most_common(1)[0][0]
    return [max((p for p in rows if p.dataset == dataset), key=lambda p: p.top1 or 0.0, default=None) for rows in found]


def _comparable(result: Result) -> list[Published]:
    if result.case.clip or any(name in result.metrics for name in ("top1", "map")):
        return []
    mine = views(result)
    return [row for row in own(result) if row.top1 is not None and (not mine or row.views in (None, mine))]


def source(row: Published) -> str:
    """Return where a published top-1 is from, in words: data set, pre-training, views and source."""
    pretrained = f", pre-trained on {row.pretrain}" if row.pretrain else ""
    tested = f", {row.views.replace('x', '×')} views" if row.views else ""
    return printable(f"published for {row.dataset}{pretrained}{tested}: {row.source}")


def gaps(results: Sequence[Result]) -> Table | None:
    """Return our GFLOPs and parameters beside the published ones, with their ratio; None if nothing can be compared.

    A ratio that is over 1 % from 1 has a reason: the size of a view, or the published row's `gap`.
    """
    pairs = dict.fromkeys(
        (i, replace(row, dataset="", source="", top1=None, top5=None, views=None, pretrain=None))  # of the same counts
        for i, result in enumerate(results)
        for row in own(result)
        if (row.gflops and "gflops_view" in result.metrics) or (row.params_m and "params" in result.metrics)
    )
    if not pairs:
        return None
    return Table(
        title="Ours beside published",
        columns=_GAPS,
        rows=tuple(_gap(results[i], row) for i, row in pairs),
        caption="Of one view; sizes in pixels. Ratio: ours / published.",
    )


def _gap(result: Result, row: Published) -> Row:
    size = result.details.get("view_size")
    flops = _compared(result, "gflops_view", row.gflops)
    params = _compared(result, "params", row.params_m)
    cells = (
        Cell(text=printable(result.case.label)), _side(size), _side(row.size if row.gflops else None),
        *flops, *params, Cell(text=reason(result, row) or MISSING), Cell(text=result.case_id),
    )  # fmt: skip
    return Row(cells=cells, case_id=result.case_id, machine=result.machine)


def reason(result: Result, row: Published) -> str:
    """Return why our counts are over 1 % from the published ones; "" if they are not."""
    parts = []
    ratios = [(_ratio(result, name, value), name) for name, value in _counts(row)]
    for ratio, name in ratios:
        if ratio is None or abs(ratio - 1) <= CLOSE:
            continue
        size, theirs = result.details.get("view_size"), row.size
        if name == "gflops_view" and size and theirs and abs(ratio / (size / theirs) ** 2 - 1) <= CLOSE:
            parts.append(f"views of {size}² pixels, published for {theirs}²")
        else:
            parts.append(row.gap or "no reason known")
    return "; ".join(dict.fromkeys(parts))


def _counts(row: Published) -> list[tuple[str, float | None]]:
    return [("gflops_view", row.gflops), ("params", row.params_m)]


def _ratio(result: Result, name: str, published: float | None) -> float | None:
    metric = result.metrics.get(name)
    return metric.value * COLUMNS[name].scale / published if metric and published else None


def _compared(result: Result, name: str, published: float | None) -> tuple[Cell, Cell, Cell]:
    """Return the cells of our number, the published one, and their ratio."""
    metric, column, ratio = result.metrics.get(name), COLUMNS[name], _ratio(result, name, published)
    ours = Cell(text=column.text(metric.value), value=metric.value * column.scale) if metric else Cell()
    theirs = Cell(text=f"{published:g}", value=published) if published else Cell()
    return ours, theirs, Cell(text=f"{ratio:.3f}", value=ratio) if ratio is not None else Cell()


def _side(size: int | None) -> Cell:
    return Cell(text=f"{size}²", value=size) if size else Cell()


_GAPS = (
    Column(name="model", header="model", numeric=False),
    Column(name="size", header="our view"),
    Column(name="size_published", header="published view"),
    Column(name="gflops", header="our GFLOPs"),
    Column(name="gflops_published", header="published GFLOPs"),
    Column(name="gflops_ratio", header="ratio"),
    Column(name="params", header="our params", unit="M"),
    Column(name="params_published", header="published params", unit="M"),
    Column(name="params_ratio", header="ratio"),
    Column(name="reason", header="reason", numeric=False),
    Column(name="case_id", header="case", numeric=False),
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
    _published_text("size", "view", lambda p: f"{p.size}²" if p.size and p.gflops else None),
    _published_text("source", "source", lambda p: p.source),
)
