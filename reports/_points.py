"""The speed–accuracy plot's points, axes and colors, shared by the figure and the HTML page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from ..address import family
from ..result import Metric, Result
from ..spec import Published
from ._published import PUBLISHED, accuracies, source
from ._stats import pareto
from ._table import COLUMNS, Column

# Okabe and Ito's color-blind-safe palette; its yellow is darkened for contrast on white.
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#b5a300", "#7a7a7a")
SPEEDS = ("usd_1000_videos", "latency_ms", "throughput_clips_s", "gflops_video")
ACCURACIES = ("top1", "map", "top5")
FRONTS = 20


@dataclass(frozen=True, kw_only=True)
class Point:
    """One case in the plot, in the axes' units. `params` is in millions, None if not measured.

    `published` says where its accuracy is from, if that is not its own.
    """

    model: str
    case_id: str
    machine: str
    x: float
    y: float
    x_interval: tuple[float, float]
    y_interval: tuple[float, float]
    params: float | None
    published: str = ""

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

    Where a price was given, it is against the cost. If the results cover several data sets, the one with the most cases
    is plotted. If no case has an accuracy of its own, the published top-1 is plotted.
    """
    for y in ACCURACIES:
        for x in SPEEDS:
            found = [r for r in results if x in r.metrics and y in r.metrics]
            if found:
                data = Counter(r.case.data for r in found).most_common(1)[0][0]
                points = tuple(_point(r, COLUMNS[x], COLUMNS[y]) for r in found if r.case.data == data)
                return Plot(x=COLUMNS[x], y=COLUMNS[y], data=data, points=points)
    return _published_plot(results)


def fronts(shown: Plot) -> list[list[Point]]:
    """Return the Pareto front, then that of the other points, and so on: each from the best x to the best y.

    After `FRONTS` the rest follow as one.
    """
    left, found = list(range(len(shown.points))), []
    while left and len(found) < FRONTS:
        places = [(shown.points[i].x, shown.points[i].y) for i in left]
        front = [left[i] for i in pareto(places, lower_x=shown.x.better == "lower")]
        found.append(front)
        left = sorted(set(left) - set(front))
    return [[shown.points[i] for i in front] for front in [*found, *([left] if left else [])]]


def corner(point: Point, shown: Plot, better: bool) -> tuple[float, float]:
    """Return the better or the worse corner of a point's two intervals."""
    return point.x_interval[better == (shown.x.better == "higher")], point.y_interval[better]


def open_points(shown: Plot) -> list[Point]:
    """Return the points of which the intervals leave open whether they are on the front."""

    def beaten(best: bool) -> list[bool]:
        """Whether some other point's worse (or better) corner beats each point's better (or worse) one on both axes."""
        own = [corner(p, shown, not best) for p in shown.points]
        rivals = [corner(p, shown, best) for p in shown.points]
        return [
            any(i != j and _beats(rival, mine, shown) for j, rival in enumerate(rivals)) for i, mine in enumerate(own)
        ]

    surely, perhaps = beaten(best=False), beaten(best=True)
    return [p for p, sure, may in zip(shown.points, surely, perhaps, strict=True) if may and not sure]


def _beats(a: tuple[float, float], b: tuple[float, float], shown: Plot) -> bool:
    faster = a[0] <= b[0] if shown.x.better == "lower" else a[0] >= b[0]
    return faster and a[1] >= b[1] and a != b


def _published_plot(results: Sequence[Result]) -> Plot | None:
    printed = accuracies(results)
    for x in SPEEDS:
        found = [(r, row) for r, row in zip(results, printed, strict=True) if row and x in r.metrics]
        if found:
            points = tuple(_published_point(r, COLUMNS[x], row) for r, row in found)
            return Plot(x=COLUMNS[x], y=PUBLISHED, data=found[0][1].dataset, points=points)
    return None


def colors(families: Sequence[str]) -> dict[str, str]:
    """Assign a color to each family, cyclically if there are more families than colors."""
    return {family: PALETTE[i % len(PALETTE)] for i, family in enumerate(sorted(set(families)))}


def machines(points: Sequence[Point]) -> list[str]:
    """Return the machines of the points, in order of first appearance: each has a mark of its own."""
    return list(dict.fromkeys(point.machine for point in points))


def _point(result: Result, x: Column, y: Column) -> Point:
    accuracy = result.metrics[y.name]
    return _at(result, x, accuracy.value * y.scale, _interval(accuracy, y.scale))


def _published_point(result: Result, x: Column, row: Published) -> Point:
    value = row.top1 or 0.0
    return _at(result, x, value, (value, value), source(row))


def _at(result: Result, x: Column, y: float, y_interval: tuple[float, float], published: str = "") -> Point:
    speed, params = result.metrics[x.name], result.metrics.get("params")
    return Point(
        model=result.case.label,
        case_id=result.case_id,
        machine=result.machine,
        x=speed.value * x.scale,
        y=y,
        x_interval=_interval(speed, x.scale),
        y_interval=y_interval,
        params=params.value * COLUMNS["params"].scale if params else None,
        published=published,
    )


def _interval(metric: Metric, scale: float) -> tuple[float, float]:
    low = metric.value if metric.low is None else metric.low
    high = metric.value if metric.high is None else metric.high
    return low * scale, high * scale
