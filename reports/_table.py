"""Tables, whatever their format: columns and their order, digits, intervals and footnotes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass

from ..metric_table import QUANTITIES, Kind, Quantity, quantity
from ..result import Metric, Result

MISSING = "–"


@dataclass(frozen=True, kw_only=True)
class Column(Quantity):
    """A column. Stored values times `scale` are shown in `unit`, with `decimals` or else three significant digits.

    `convention` is what the ways of measuring all its values share.
    """

    kind: Kind = "other"
    numeric: bool = True
    convention: str = ""

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
    """A table cell: its text and, for numbers, the displayed value and its interval; `notes` are footnote numbers.

    `aside` is what sets it apart from its column, such as `batch 8`; `hint` explains it where a reader points at it.
    """

    text: str = MISSING
    value: float | None = None
    interval: str = ""
    aside: str = ""
    hint: str = ""
    notes: tuple[int, ...] = ()

    @property
    def full(self) -> str:
        """The value with its interval and what sets it apart, such as `81.2 [77.1, 84.9] batch 8`."""
        return " ".join(part for part in (self.text, self.interval, self.aside) if part)


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


def views(result: Result) -> str:
    """Return the views, such as `4x3` (clips × crops), of the case or its model; "" if unknown."""
    return str(result.case.views or result.details.get("views", ""))


def per_view(gflops: str, views: str) -> str:
    """Return text such as `88.1 × 4×3`: the cost of one view × the views per video."""
    return f"{gflops} × {views.replace('x', '×')}" if views else gflops
