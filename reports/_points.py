"""The speed–accuracy plot's points, axes and colors, shared by the figure and the HTML page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from ..address import family
from ..result import Metric, Result
from ._table import COLUMNS, Column

# Okabe and Ito's color-blind-safe palette; its yellow is darkened for contrast on white.
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#b5a300", "#7a7a7a")
SPEEDS = ("latency_ms", "throughput_clips_s", "gflops_video")
ACCURACIES = ("top1", "map", "top5")


@dataclass(frozen=True, kw_only=True)
class Point:
    """One case in the plot, in the axes' units. `params` is in millions, None if not measured."""

    model: str
    case_id: str
    machine: str
    x: float
    y: float
    x_interval: tuple[float, float]
    y_interval: tuple[float, float]
    params: float | None

    @property
    def family(self) -> str:
        """The architecture, which determines the color."""
        return family(self.model)


@dataclass(frozen=True, kw_only=True)
class Plot:
    """The axes and the points with values on both, all of one data set: accuracies on different data do not compare."""

    x: Column
    y: Column
    data: str
    points: tuple[Point, ...]


def plot(results: Sequence[Result]) -> Plot | None:
    """Return top-1 (or else mAP or top-5) against latency (or else throughput or GFLOPs); None if no case has both.

    If the results cover several data sets, the one with the most cases is plotted.
    """
    for y in ACCURACIES:
        for x in SPEEDS:
            found = [r for r in results if x in r.metrics and y in r.metrics]
            if found:
                data = Counter(r.case.data for r in found).most_common(1)[0][0]
                points = tuple(_point(r, COLUMNS[x], COLUMNS[y]) for r in found if r.case.data == data)
                return Plot(x=COLUMNS[x], y=COLUMNS[y], data=data, points=points)
    return None


def colors(families: Sequence[str]) -> dict[str, str]:
    """Assign a color to each family, cyclically if there are more families than colors."""
    return {family: PALETTE[i % len(PALETTE)] for i, family in enumerate(sorted(set(families)))}


def machines(points: Sequence[Point]) -> list[str]:
    """Return the machines of the points, in order of first appearance: each has a mark of its own."""
    return list(dict.fromkeys(point.machine for point in points))


def _point(result: Result, x: Column, y: Column) -> Point:
    speed, accuracy = result.metrics[x.name], result.metrics[y.name]
    params = result.metrics.get("params")
    return Point(
        model=result.case.label,
        case_id=result.case_id,
        machine=result.machine,
        x=speed.value * x.scale,
        y=accuracy.value * y.scale,
        x_interval=_interval(speed, x.scale),
        y_interval=_interval(accuracy, y.scale),
        params=params.value * COLUMNS["params"].scale if params else None,
    )


def _interval(metric: Metric, scale: float) -> tuple[float, float]:
    low = metric.value if metric.low is None else metric.low
    high = metric.value if metric.high is None else metric.high
    return low * scale, high * scale
