"""The speed-accuracy figure: its kinds, its error bars, and labels that keep clear of each other."""

from __future__ import annotations

import itertools
import random
import xml.etree.ElementTree
from pathlib import Path

import numpy as np
import pytest
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.patches import Polygon
from matplotlib.text import Text
from reelbench import reports
from reelbench.errors import UserError
from reelbench.reports import _published, figure
from reelbench.reports._points import plot
from reelbench.result import Metric, Result
from reelbench.spec import Case, Published
from reelbench.tests.examples import RESULTS


def test_the_figure_is_a_picture_of_its_kind(tmp_path: Path):
    for suffix, magic in ((".png", b"\x89PNG"), (".pdf", b"%PDF"), (".svg", b"<?xml")):
        assert figure.write(RESULTS, tmp_path / f"f{suffix}", title="x").read_bytes().startswith(magic)
    with pytest.raises(UserError, match="ends in .png, .svg, .pdf"):
        figure.write(RESULTS, tmp_path / "f.gif", title="x")
    with pytest.raises(UserError, match="nothing to plot"):
        figure.render(RESULTS[-2:], title="x")


def test_the_figure_is_the_same_every_time_and_names_its_cases():
    svg = figure.render(RESULTS, title="Räder & <b>", format="svg")
    assert svg == figure.render(RESULTS, title="Räder & <b>", format="svg")
    texts = {
        "".join(e.itertext()).strip() for e in xml.etree.ElementTree.fromstring(svg).iter() if e.tag.endswith("text")
    }
    assert {"video_swin/micro", "tsm/micro", "vivit/micro", "Räder & <b>", "Pareto front"} <= texts
    assert "dualformer/micro" not in texts  # tested on other data


def test_error_bars_are_the_intervals():
    shown = plot(RESULTS)
    assert shown is not None
    axes = figure._figure(shown, "x").axes[0]
    lines = [s for c in axes.collections if isinstance(c, LineCollection) for s in c.get_segments()]
    for point in shown.points:
        upright = [(point.x, point.y_interval[0]), (point.x, point.y_interval[1])]
        level = [(point.x_interval[0], point.y), (point.x_interval[1], point.y)]
        assert any(np.allclose(line, upright) for line in lines)
        assert any(np.allclose(line, level) for line in lines)


def test_published_accuracies_are_hollow_marks_and_never_beside_measured_ones():
    def row(dataset: str, top1: float) -> Published:
        return Published(model="tsm/r50_8f", dataset=dataset, source="S", top1=top1)

    latency = {"latency_ms": Metric(value=9.0, unit="ms")}
    untested = Result(
        case=Case(model="tsm/r50_8f"), status="ok", started="", seconds=0.0, metrics=latency,
        published=(row("kinetics400", 74.0), row("sthv2", 62.0)),
    )  # fmt: skip
    for results, dataset, top1 in (
        ([untested], "kinetics400", 74.0), (_published.chosen([untested], "sthv2"), "sthv2", 62.0),
    ):  # fmt: skip
        shown = plot(results)
        assert shown is not None
        assert (shown.data, shown.y.header, [p.y for p in shown.points]) == (dataset, "top-1 (published)", [top1])
        [bubbles] = [c for c in figure._figure(shown, "x").axes[0].collections if isinstance(c, PathCollection)]
        assert len(bubbles.get_facecolors()) == 0  # type: ignore[attr-defined]
    page = str(reports.render([untested], "html"))
    assert '"top1_published":[74.0,null,null]' in page
    assert "published for kinetics400: S" in page
    with pytest.raises(UserError, match="unknown data set of published rows 'k400'.*kinetics400"):
        _published.chosen([untested], "k400")
    mixed = plot([untested, *crowd(2)])
    assert mixed is not None
    assert [point.published for point in mixed.points] == ["", ""]


def crowd(n: int) -> list[Result]:
    draw = random.Random(1)
    results = []
    for i in range(n):
        accuracy, latency = (
            Metric(value=50 + 30 * draw.random(), unit="%"),
            Metric(value=5 + 50 * draw.random(), unit="ms"),
        )
        case = Case(model=f"family{i % 5}/variant_{i}")
        metrics = {"top1": accuracy, "latency_ms": latency, "params": Metric(value=1e6 * (i + 1), unit="")}
        results.append(Result(case=case, status="ok", started="", seconds=0.0, metrics=metrics))
    return results


def test_labels_in_a_crowd_never_overlap():
    shown = plot(crowd(40))
    assert shown is not None
    drawn = figure._figure(shown, "x")
    renderer = drawn.canvas.get_renderer()  # type: ignore[attr-defined]
    labels = [t for t in drawn.axes[0].texts if isinstance(t, Text)]
    boxes = [t.get_window_extent(renderer) for t in labels]
    assert len(boxes) > 20
    assert not [1 for a, b in itertools.combinations(boxes, 2) if a.shrunk(0.99, 0.9).overlaps(b.shrunk(0.99, 0.9))]
    front = {shown.points[i].model for i in figure._front_indices(shown)}
    assert front <= {t.get_text() for t in labels}


def test_no_label_lies_on_an_error_bar():
    accuracy = Metric(value=50, unit="%", low=45, high=55)
    latency = Metric(value=10, unit="ms", low=4, high=25)
    wide = Result(case=Case(model="tsm/micro"), status="ok", started="", seconds=0.0,
                  metrics={"top1": accuracy, "latency_ms": latency})  # fmt: skip
    shown = plot([wide])
    assert shown is not None
    axes = figure._figure(shown, "x").axes[0]
    [label] = axes.texts
    box = label.get_window_extent()
    x, y = axes.transData.transform((10, 50))
    assert not box.y0 < y < box.y1
    assert not box.x0 < x < box.x1


def test_each_of_a_few_points_is_labeled_however_close_they_are():
    results = [case_at(f"family{i}/micro", 50 + 2 * i, 10 + i / 50) for i in range(figure.FEW)]
    shown = plot(results)
    assert shown is not None
    texts = {text.get_text() for text in figure._figure(shown, "x").axes[0].texts}
    assert texts == {result.case.model for result in results}


def test_the_band_of_the_front_begins_upright():
    shown = plot([case_at("tsm/micro", 60, 10), case_at("vivit/micro", 80, 20)])
    assert shown is not None
    [band] = [p for p in figure._figure(shown, "x").axes[0].patches if isinstance(p, Polygon)]
    outline = np.array(band.get_xy())
    level_or_upright = np.isclose(np.diff(outline, axis=0), 0).any(axis=1)
    assert level_or_upright.all()


def case_at(model: str, top1: float, latency: float) -> Result:
    """Return a case whose intervals reach 5 points and 10 % to either side."""
    metrics = {
        "top1": Metric(value=top1, unit="%", low=top1 - 5, high=top1 + 5),
        "latency_ms": Metric(value=latency, unit="ms", low=0.9 * latency, high=1.1 * latency),
    }
    return Result(case=Case(model=model), status="ok", started="", seconds=0.0, metrics=metrics)
