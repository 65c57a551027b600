"""The speed–accuracy plot for a paper: PNG, SVG or PDF.

Accuracy with its interval over latency (or throughput, or GFLOPs); bubble areas are parameter counts, colors are
architectures, the dashed line is the Pareto front, with a band where it may lie given the intervals. Bubbles of
published accuracies are hollow.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from ..errors import UserError
from ..result import Result
from . import _labels
from ._points import Plot, Point, colors, corner, machines, plot
from ._stats import pareto

FORMATS = ("png", "svg", "pdf")
STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.size": 9.0,
    "axes.linewidth": 0.8,
    "axes.edgecolor": "#9a9a9a",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": "#444444",
    "ytick.color": "#444444",
    "axes.labelcolor": "#222222",
    "svg.hashsalt": "reelbench",
    "svg.fonttype": "none",
    "pdf.fonttype": 42,
}
INK = "#222222"
MARKS = "osD^v<>P"  # a machine each, if there are several
Corners = list[tuple[float, float]]
SMALLEST, LARGEST = 5.0, 26.0  # bubble diameters in points
NEAR, FAR = (3, 8), (16, 30, 50, 80)  # gaps to try between a bubble and its label, in points
FEW = 12  # points up to which every label may stand FAR off; of more, only those on the front
COARSE, FINE = (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 7)  # ticks of a decade, where there are several and where there is one
LABELS = 60  # most points labeled besides those on the front


def render(results: Sequence[Result], *, title: str, format: str = "png") -> bytes:
    """Return the figure as bytes, in `png`, `svg` or `pdf`. Raises UserError if no result has both accuracy and speed.

    Of several data sets, only the one with the most cases is plotted.
    """
    shown = plot(results)
    if shown is None:
        raise UserError("nothing to plot: no case has both an accuracy and a latency, throughput or GFLOPs")
    with matplotlib.rc_context(STYLE):
        return save(_figure(shown, title), format)


def save(figure: Figure, format: str) -> bytes:
    """Return a figure as bytes, in `png`, `svg` or `pdf`, the same ones every time."""
    picture = io.BytesIO()
    metadata = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(format, {})
    figure.savefig(picture, format=format, dpi=200, metadata=metadata)
    return picture.getvalue()


def write(results: Sequence[Result], to: Path, *, title: str) -> Path:
    """Write the figure in the format of the file's suffix. Raises UserError for another suffix, or without data."""
    format = to.suffix.lstrip(".").lower()
    if format not in FORMATS:
        raise UserError(f"{to}: a figure ends in {', '.join('.' + f for f in FORMATS)}")
    picture = render(results, title=title, format=format)
    to.parent.mkdir(parents=True, exist_ok=True)
    to.write_bytes(picture)
    return to


def _figure(shown: Plot, title: str) -> Figure:
    figure = Figure(figsize=(7.2, 4.6), layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    _axes(axes, shown, title)
    corners = _front(axes, shown)
    diameters = _diameters(shown.points)
    _bubbles(axes, shown.points, diameters)
    _legend(axes, shown.points)
    canvas.draw()  # the layout is fixed from here on, so that label positions hold
    figure.set_layout_engine("none")
    _label(axes, canvas, shown, diameters, corners)
    return figure


def _axes(axes: Axes, shown: Plot, title: str) -> None:
    axes.set_title(title, loc="left", fontsize=11, fontweight="bold", color=INK, pad=10)
    direction = {"lower": "← better", "higher": "better →"}[shown.x.better]
    axes.set_xlabel(f"{shown.x.label}   {direction}")
    axes.set_ylabel(f"{shown.y.label} on {Path(shown.data).name}")
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.tick_params(length=3, which="both")
    axes.grid(True, color="#ececec", linewidth=0.8)
    axes.set_axisbelow(True)
    xs = [bound for p in shown.points for bound in (p.x, *p.x_interval)]
    spread = max(math.log(max(xs) / min(xs)), 0.7)
    axes.xaxis.set_major_locator(LogLocator(subs=COARSE if spread > math.log(10) else FINE))
    axes.set_xlim(min(xs) * math.exp(-0.12 * spread), max(xs) * math.exp(0.16 * spread))
    ys = [bound for p in shown.points for bound in p.y_interval]
    margin = 0.08 * max(max(ys) - min(ys), 4)
    axes.set_ylim(max(0, min(ys) - margin), min(101, max(ys) + 1.8 * margin))


def _front(axes: Axes, shown: Plot) -> Corners:
    """Draw the Pareto front as a step line and return its corners.

    The band lies between the fronts of the better and of the worse ends of all intervals.
    """
    edge = axes.get_xlim()[shown.x.better == "lower"]
    corners = _stairs(shown, [(p.x, p.y) for p in shown.points], edge)
    best, worst = (_stairs(shown, [corner(p, shown, better) for p in shown.points], edge) for better in (True, False))
    outline = [*best, *reversed(worst), (best[0][0], worst[0][1])]  # upright on the left, as the front itself begins
    axes.fill(*zip(*outline, strict=True), color=INK, alpha=0.07, linewidth=0, zorder=0.5)
    axes.plot(*zip(*corners, strict=True), color=INK, alpha=0.5, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
    return corners


def _stairs(shown: Plot, places: Sequence[tuple[float, float]], edge: float) -> Corners:
    """Return the corners of the step line through the front of `places`, up to x = `edge`."""
    front = [places[i] for i in pareto(places, lower_x=shown.x.better == "lower")]
    xs = [x for x, _ in front]
    return [(x, y) for i, (_, y) in enumerate(front) for x in (xs[i], [*xs, edge][i + 1])]


def _front_indices(shown: Plot) -> list[int]:
    return pareto([(p.x, p.y) for p in shown.points], lower_x=shown.x.better == "lower")


def _bubbles(axes: Axes, points: Sequence[Point], diameters: Sequence[float]) -> None:
    color, where = colors([p.family for p in points]), machines(points)
    for family, machine in dict.fromkeys((p.family, p.machine) for p in points):
        chosen = [i for i, p in enumerate(points) if (p.family, p.machine) == (family, machine)]
        paint, mark = color[family], _mark(where.index(machine))
        x, y = [points[i].x for i in chosen], [points[i].y for i in chosen]
        xerr = _errors([(points[i].x, *points[i].x_interval) for i in chosen])
        yerr = _errors([(points[i].y, *points[i].y_interval) for i in chosen])
        areas = [diameters[i] ** 2 for i in chosen]
        inside = "none" if points[0].published else to_rgba(paint, 0.3)
        axes.scatter(x, y, s=areas, facecolors=inside, edgecolors=paint, linewidths=1.2, zorder=2)
        axes.errorbar(x, y, xerr=xerr, yerr=yerr, fmt=mark, markersize=3, color=paint, elinewidth=1.1, zorder=3)


def _mark(machine: int) -> str:
    """Return the mark of the n-th machine's points."""
    return MARKS[machine % len(MARKS)]


def _errors(values: Iterable[tuple[float, float, float]]) -> list[list[float]]:
    """Return the distances of the bounds below and above each value, as matplotlib's errorbar takes them."""
    rows = list(values)
    return [[max(0.0, v - low) for v, low, _ in rows], [max(0.0, high - v) for v, _, high in rows]]


def _diameters(points: Sequence[Point]) -> list[float]:
    largest = max((p.params or 0 for p in points), default=0)
    return [_diameter(p.params, largest) for p in points]


def _diameter(params: float | None, largest: float) -> float:
    return max(SMALLEST, LARGEST * math.sqrt(params / largest)) if params and largest else SMALLEST


def _legend(axes: Axes, points: Sequence[Point]) -> None:
    sizes = [p.params for p in points if p.params]
    steps = [max(sizes) / share for share in (1, 4, 16) if max(sizes) / share >= min(sizes) / 2] if sizes else []
    marks = [Line2D([], [], color=INK, alpha=0.5, linewidth=1, linestyle=(0, (4, 3)), label="Pareto front")]
    marks += [
        Line2D(
            [],
            [],
            marker="o",
            linestyle="",
            markersize=_diameter(size, max(sizes)),
            markerfacecolor="#f2f2f2",
            markeredgecolor="#9a9a9a",
            label=f"{size:g} M parameters",
        )
        for size in dict.fromkeys(float(f"{step:.1g}") for step in steps)
    ]
    marks += [
        Line2D([], [], marker="o", linestyle="", markersize=5, color=paint, label=family)
        for family, paint in colors([p.family for p in points]).items()
    ]
    where = machines(points)
    marks += [
        Line2D([], [], marker=_mark(i), linestyle="", markersize=4, color=INK, label=machine)
        for i, machine in enumerate(where if len(where) > 1 else ())
    ]
    axes.legend(
        handles=marks,
        frameon=False,
        fontsize=8,
        loc="upper left",
        bbox_to_anchor=(1.0, 1.0),
        handlelength=LARGEST / 8,  # in units of the font size, as the spacing: room for the largest bubble
        labelspacing=1.6,
        labelcolor="#444444",
    )


def _label(axes: Axes, canvas: FigureCanvasAgg, shown: Plot, diameters: Sequence[float], corners: Corners) -> None:
    """Label the points on the front first, then the others; a label without a free place is omitted."""
    points, pixel = shown.points, canvas.figure.dpi / 72
    centers = axes.transData.transform([(p.x, p.y) for p in points])
    radii = np.array(diameters) * pixel / 2
    taken = np.vstack([_labels.around(centers, radii), _lines(axes, points, corners)])
    front = _front_indices(shown)
    rest = sorted(range(len(points)), key=lambda i: -points[i].y)[:LABELS]
    distant = range(len(points)) if len(points) <= FEW else front
    for i in dict.fromkeys([*front, *rest]):
        text = axes.text(0, 0, points[i].model, fontsize=8, color=INK, va="bottom", zorder=4)
        extent = text.get_window_extent(canvas.get_renderer())
        gaps = [gap * pixel for gap in (NEAR + FAR if i in distant else NEAR)]
        box = _labels.place(centers[i], radii[i], (extent.width, extent.height), taken, axes.bbox.extents, gaps)
        if box is None:
            text.remove()
            continue
        x, y = axes.transData.inverted().transform(box[:2])
        text.set_position((x, y))
        taken = np.vstack([taken, box])
        _leader(axes, centers[i], box, radii[i] + 2 * NEAR[-1] * pixel)


def _leader(axes: Axes, center: _labels.Boxes, box: _labels.Boxes, far: float) -> None:
    """Draw a leader line from a bubble to its label if that is more than `far` pixels away."""
    near = np.clip(center, box[:2], box[2:])
    if np.hypot(*(near - center)) > far:
        ends = axes.transData.inverted().transform([center, near])
        axes.plot(ends[:, 0], ends[:, 1], color=INK, alpha=0.6, linewidth=0.6, zorder=1.5)


def _lines(axes: Axes, points: Sequence[Point], corners: Corners) -> _labels.Boxes:
    """Return the boxes of the error bars and of the front, in pixels."""
    pixels = axes.transData.transform
    front = pixels(corners)
    upright = (pixels([(p.x, p.y_interval[end]) for p in points]) for end in (0, 1))
    level = (pixels([(p.x_interval[end], p.y) for p in points]) for end in (0, 1))
    return np.vstack([_labels.along(*upright), _labels.along(*level), _labels.along(front[:-1], front[1:])])
