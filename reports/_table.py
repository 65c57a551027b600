"""Results to tables: columns and their order, digits, intervals and footnotes, for all formats.

A table has columns for the metrics that any result has and for the settings that differ between cases; settings that
all cases share are in the caption.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from ..metric_table import QUANTITIES, Kind, Quantity, quantity
from ..result import Result
from ..spec import Published
from ._calibration import remarks
from ._limits import sentences
from ._ranking import reversals

MISSING = "–"


@dataclass(frozen=True, kw_only=True)
class Column(Quantity):
    """A column. Stored values times `scale` are shown in `unit`, with `decimals` or else three significant digits."""

    kind: Kind = "other"
    numeric: bool = True
    notes: tuple[int, ...] = ()

    @property
    def label(self) -> str:
        """Header and unit, such as `latency (ms)`."""
        return f"{self.header} ({self.unit})" if self.unit else self.header

    def text(self, value: float) -> str:
        """Format a stored value in the column's unit and digits, without the unit."""
        return number(value * self.scale, self.decimals)

    def interval(self, low: float | None, high: float | None) -> str:
        """Format the bounds of a stored value, such as `[77.1, 84.9]`; "" if either is None."""
        return "" if low is None or high is None else f"[{self.text(low)}, {self.text(high)}]"


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A table cell: its text and, for numbers, the displayed value and its interval; `notes` are footnote numbers."""

    text: str = MISSING
    value: float | None = None
    interval: str = ""
    notes: tuple[int, ...] = ()

    @property
    def full(self) -> str:
        """The value with its interval, such as `81.2 [77.1, 84.9]`."""
        return f"{self.text} {self.interval}" if self.interval else self.text


@dataclass(frozen=True, kw_only=True)
class Row:
    """A table row: one case with its status and error, or one published row (`case_id` is empty)."""

    cells: tuple[Cell, ...]
    case_id: str = ""
    status: str = "ok"
    error: str = ""


@dataclass(frozen=True, kw_only=True)
class Table:
    """A format-independent table. Footnote 1 is `notes[0]`; `left` is the number of omitted rows."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    caption: str = ""
    notes: tuple[str, ...] = ()
    left: int = 0


def column(quantity: Quantity) -> Column:
    """Return the column that shows a metric's number."""
    return Column(**asdict(quantity))


COLUMNS = {name: column(row) for name, row in QUANTITIES.items()}
"""The columns of the metric table's quantities, in its order; columns of user-defined metrics follow them."""


def _clip(result: Result) -> str:
    """Return `16x4, 224²` (frames x stride, pixels) if a case overrides its model's own clip."""
    clip = result.case.clip
    return f"{clip.frames}x{clip.stride}, {clip.size}²" if clip else "own clip"


SETTINGS: dict[str, Callable[[Result], str]] = {
    "data": lambda r: r.case.data if r.case.shows_videos else "",
    "clip": _clip,
    "machine": lambda r: machine(r.environment),
    "device": lambda r: r.case.device,
    "precision": lambda r: r.case.precision,
    "mode": lambda r: r.case.mode,
    "memory format": lambda r: "channels last" if r.case.channels_last else "contiguous",
    "batch": lambda r: str(r.case.batch or "automatic"),
    "ranks": lambda r: str(r.case.ranks),
    "workers": lambda r: str(r.case.workers),
    "decoder": lambda r: r.case.decoder,
    "seed": lambda r: seeds(r),
    "checkpoint": lambda r: r.case.checkpoint or "",
}


def seeds(result: Result) -> str:
    """Return a case's seed as text, or the seeds of a mean."""
    merged = result.details.get("seeds")
    return f"{', '.join(map(str, merged))} (mean of {len(merged)})" if merged else str(result.case.seed)


USUAL = ("auto", "eager", "contiguous", "own clip")  # defaults, not shown in the caption


class _Notes:
    """Footnotes, numbered in order of first use; equal texts share a number."""

    def __init__(self) -> None:
        self.texts: dict[str, int] = {}

    def add(self, *texts: str) -> tuple[int, ...]:
        return tuple(self.texts.setdefault(printable(t), len(self.texts) + 1) for t in texts if t)


def printable(text: str) -> str:
    """Return text on one line, without control characters."""
    line = " ".join(text.split())
    return line if line.isprintable() else "".join(c if c.isprintable() else "\ufffd" for c in line)


def number(value: float, decimals: int | None = None) -> str:
    """Format with the given decimals, or with three significant digits and no exponent: 0.213, 27.9, 1234."""
    if decimals is None:
        decimals = max(0, 2 - math.floor(math.log10(abs(value)))) if value else 0
    return f"{value:.{min(decimals, 9)}f}"


def machine(environment: dict[str, Any]) -> str:
    """Return the machine's display name: its GPUs, or else its CPU."""
    gpus = [str(g["name"]) for g in environment.get("gpus") or ()]
    if gpus:
        return gpus[0] if len(gpus) == 1 else f"{len(gpus)} × {gpus[0]}"
    cores = environment.get("cores")
    return f"{environment.get('cpu') or ''}{f', {cores} cores' if cores else ''}"


def metric_columns(results: Sequence[Result]) -> list[Column]:
    """Return the columns of all metrics that any result has."""
    found = {name: metric for r in results for name, metric in r.metrics.items()}
    known = [c for name, c in COLUMNS.items() if name in found]
    others = sorted(found.keys() - COLUMNS.keys())
    return known + [column(quantity(name, found[name].unit, found[name].better)) for name in others]


def by_case(
    title: str,
    columns: Sequence[Column],
    rows: Sequence[tuple[Result, Sequence[Cell]]],
    caption: str,
    *,
    left: int = 0,
) -> Table:
    """Return a table with a model column, `columns`, and a case column; `left` is the number of omitted rows."""
    model, case = (Column(name=n, header=h, numeric=False) for n, h in (("model", "model"), ("case_id", "case")))
    return Table(
        title=title,
        columns=(model, *columns, case),
        rows=tuple(
            Row(
                cells=(Cell(text=printable(result.case.label)), *cells, Cell(text=result.case_id)),
                case_id=result.case_id,
                status=result.status,
            )
            for result, cells in rows
        ),
        caption=caption,
        left=left,
    )


def limits(results: Sequence[Result]) -> list[str]:
    """Return the sentences on each case's bottleneck (see `_limits`), without control characters."""
    return [printable(sentence) for sentence in sentences(results)]


def tables(results: Sequence[Result]) -> list[Table]:
    """Return the measured table and, if there are any, a separate table of published rows.

    Notes of the measured table name bottlenecks and ranking reversals.
    """
    shown, printed = measured(results), published(results)
    shown = replace(shown, notes=(*shown.notes, *limits(results), *reversals(results)))
    return [shown, *([printed] if printed.rows else [])]


def _missing(results: Sequence[Result]) -> list[str]:
    """Return a sentence per machine and quantity that it cannot measure."""
    found = dict.fromkeys(
        (machine(r.environment), what) for r in results for what in r.details.get("not_available", ())
    )
    return [printable(f"Not available on this device ({where}): {what}.") for where, what in found]


def measured(results: Sequence[Result]) -> Table:
    """Return the table of measured metrics, one row per result, in the given order."""
    notes = _Notes()
    settings = {name: [get(r) for r in results] for name, get in SETTINGS.items()}
    differing = [name for name, values in settings.items() if len(_kinds(name, values)) > 1]
    columns = [_with_convention(c, results, notes) for c in metric_columns(results)]
    shown = [Column(name=n, header=n, numeric=False) for n in ("model", *differing)]
    slow = remarks(results)
    failures = [Column(name="status", header="status", numeric=False)] if any(r.status != "ok" for r in results) else []
    rows = [
        Row(
            case_id=case_id,
            status=r.status,
            error=printable(r.error),
            cells=(
                Cell(text=printable(r.case.label)),
                *(Cell(text=printable(settings[n][i]) or MISSING) for n in differing),
                *(_cell(c, r, notes, slow[i]) for c in columns),
                *(_status(r, notes) for _ in failures),
                _names(r, notes),
            ),
        )
        for i, (r, case_id) in enumerate(zip(results, [r.case_id for r in results], strict=True))
    ]
    return Table(
        title="Measured",
        columns=(*shown, *columns, *failures, Column(name="case_id", header="case", numeric=False)),
        rows=tuple(rows),
        caption=_caption({n: max(_kinds(n, v), default="") for n, v in settings.items() if n not in differing}, rows),
        notes=(*notes.texts, *_missing(results)),
    )


def published(results: Sequence[Result]) -> Table:
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


def _kinds(name: str, values: Sequence[str]) -> set[str]:
    """Return the distinct values of a setting.

    Empty machines (the case died before recording its environment) and data (the case used no videos) do not count.
    """
    return set(values) - ({""} if name in ("machine", "data") else set())


def _with_convention(column: Column, results: Sequence[Result], notes: _Notes) -> Column:
    """Attach the convention to the header as a footnote if all rows share it; otherwise `_cell` attaches them."""
    found = {r.metrics[column.name].convention for r in results if column.name in r.metrics}
    return replace(column, notes=notes.add(*found) if len(found) == 1 else ())


def _cell(column: Column, result: Result, notes: _Notes, slow: str) -> Cell:
    metric = result.metrics.get(column.name)
    if metric is None:
        return Cell()
    text = column.text(metric.value)
    if column.name == "gflops_view":
        text = per_view(text, views(result))
    texts = [metric.warning, "" if column.notes else metric.convention]
    if column.timed and "machine_disturbed" not in metric.flags:
        texts.append(slow)
    if column.name == "top1" and result.details.get("learned") is False:
        texts.append(_unlearned(result))
    interval = column.interval(metric.low, metric.high)
    return Cell(text=text, value=metric.value * column.scale, interval=interval, notes=notes.add(*texts))


def views(result: Result) -> str:
    """Return the views, such as `4x3` (clips × crops), of the case or its model; "" if unknown."""
    return str(result.case.views or result.details.get("views", ""))


def per_view(gflops: str, views: str) -> str:
    """Return text such as `88.1 × 4×3`: the cost of one view × the views per video."""
    return f"{gflops} × {views.replace('x', '×')}" if views else gflops


def _unlearned(result: Result) -> str:
    chance = result.details.get("chance")
    level = f"twice chance ({chance:g} %)" if isinstance(chance, int | float) else "twice chance"
    advice = result.details.get("advice")
    return f"did not learn: the lower bound of top-1 is not above {level}{f'; {advice}' if advice else ''}"


def _status(result: Result, notes: _Notes) -> Cell:
    error = "" if result.status == "ok" else f"{result.case.label} ({result.case_id}): {result.error}"
    return Cell(text=result.status, notes=notes.add(error))


def _names(result: Result, notes: _Notes) -> Cell:
    """Return the case's id; for a mean over seeds that of its first case, with all ids in a note."""
    cases = result.details.get("cases", ())
    return Cell(text=result.case_id, notes=notes.add(f"cases {', '.join(cases)}" if cases else ""))


def _caption(shared: dict[str, str], rows: Sequence[Row]) -> str:
    plain = ("data", "machine", "device", "precision")
    parts = [
        printable(value) if name in plain else f"{name} {value}"
        for name, value in shared.items()
        if value and value not in USUAL
    ]
    intervals = any(cell.interval for row in rows for cell in row.cells)
    return " · ".join([*parts, *(["intervals cover 95 %"] if intervals else [])])


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
