"""Results to tables: columns and their order, digits, intervals and footnotes, for all formats.

A table has columns for the metrics that any result has and for the settings that differ between cases; settings that
all cases share are in the caption.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace

from ..metric_table import QUANTITIES, Kind, Quantity, quantity
from ..result import Metric, Result
from ._calibration import remarks
from ._provenance import marks

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
    """A table row: one case on one machine with its status and error, or one published row (`case_id` is empty)."""

    cells: tuple[Cell, ...]
    case_id: str = ""
    machine: str = ""
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


def suite(result: Result) -> str:
    """Return the suite that asked for a case, with its version; "" if it is not recorded."""
    name = result.details.get("suite", "")
    return f"{name} v{result.details.get('suite_version', 1)}" if name else ""


SETTINGS: dict[str, Callable[[Result], str]] = {
    "data": lambda r: r.case.data if r.case.shows_videos else "",
    "clip": _clip,
    "machine": lambda r: r.machine,
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


def metric_columns(results: Sequence[Result]) -> list[Column]:
    """Return the columns of all metrics that any result has."""
    found = {name: metric for r in results for name, metric in r.metrics.items()}
    known = [c for name, c in COLUMNS.items() if name in found]
    others = sorted(found.keys() - COLUMNS.keys())
    return known + [column(quantity(name, found[name].unit, found[name].better)) for name in others]


def metric_cell(column: Column, metric: Metric | None) -> Cell:
    """Return a metric's number with its interval, in the column's unit; an empty cell for None."""
    if metric is None:
        return Cell()
    interval = column.interval(metric.low, metric.high)
    return Cell(text=column.text(metric.value), value=metric.value * column.scale, interval=interval)


def several(results: Iterable[Result]) -> bool:
    """Return whether the results are of several machines; those that record none are of any."""
    return len({r.machine for r in results} - {""}) > 1


def by_case(
    title: str,
    columns: Sequence[Column],
    rows: Sequence[tuple[Result, Sequence[Cell]]],
    caption: str,
    *,
    left: int = 0,
) -> Table:
    """Return a table with a model column, `columns`, and a case column; `left` is the number of omitted rows.

    If several machines measured the rows, their names follow the model's.
    """
    model, where, case = (
        Column(name=n, header=h, numeric=False)
        for n, h in (("model", "model"), ("machine", "machine"), ("case_id", "case"))
    )
    between = [where] if several(result for result, _ in rows) else []
    return Table(
        title=title,
        columns=(model, *between, *columns, case),
        rows=tuple(
            Row(
                cells=(
                    Cell(text=printable(result.case.label)),
                    *(Cell(text=printable(result.machine) or MISSING) for _ in between),
                    *cells,
                    Cell(text=result.case_id),
                ),
                case_id=result.case_id,
                machine=result.machine,
                status=result.status,
            )
            for result, cells in rows
        ),
        caption=caption,
        left=left,
    )


def _missing(results: Sequence[Result]) -> list[str]:
    """Return a sentence per machine and quantity that it cannot measure."""
    found = dict.fromkeys((r.machine, what) for r in results for what in r.details.get("not_available", ()))
    return [printable(f"Not available on this device ({where}): {what}.") for where, what in found]


def measured(results: Sequence[Result]) -> Table:
    """Return the table of measured metrics, one row per result, in the given order."""
    notes = _Notes()
    settings = {name: [get(r) for r in results] for name, get in SETTINGS.items()}
    differing = [name for name, values in settings.items() if len(_kinds(name, values)) > 1]
    columns = [_with_convention(c, results, notes) for c in metric_columns(results)]
    shown = [Column(name=n, header=n, numeric=False) for n in ("model", *differing)]
    slow, stale = remarks(results), marks(results)
    failures = [Column(name="status", header="status", numeric=False)] if any(r.status != "ok" for r in results) else []
    rows = [
        Row(
            case_id=r.case_id,
            machine=r.machine,
            status=r.status,
            error=printable(r.error),
            cells=(
                Cell(text=printable(r.case.label), notes=notes.add(stale[i])),
                *(Cell(text=printable(settings[n][i]) or MISSING) for n in differing),
                *(_cell(c, r, notes, slow[i]) for c in columns),
                *(_status(r, notes) for _ in failures),
                _names(r, notes),
            ),
        )
        for i, r in enumerate(results)
    ]
    asked = ", ".join(dict.fromkeys(filter(None, map(suite, results))))
    shared = {n: max(_kinds(n, v), default="") for n, v in settings.items() if n not in differing}
    return Table(
        title="Measured",
        columns=(*shown, *columns, *failures, Column(name="case_id", header="case", numeric=False)),
        rows=tuple(rows),
        caption=_caption({"suite": asked, **shared}, rows),
        notes=(*notes.texts, *_missing(results)),
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
    cell = metric_cell(column, metric)
    text = cell.text
    if column.name == "gflops_view":
        text = per_view(text, views(result))
    texts = [metric.warning, "" if column.notes else metric.convention]
    if column.timed and "machine_disturbed" not in metric.flags:
        texts.append(slow)
    if column.name == "top1" and result.details.get("learned") is False:
        texts.append(_unlearned(result))
    return replace(cell, text=text, notes=notes.add(*texts))


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
