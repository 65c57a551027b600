"""Ours beside published: sizes are said, and every gap over 1 % has a reason."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from reelbench import models, reports
from reelbench.harness.suites import ledger
from reelbench.reports import _published, _table, paper
from reelbench.result import Metric, Result
from reelbench.spec import Case, Published

COUNTED = Path(__file__).parent.parent / "reports/reference/cpu/published"


def today(result: Result) -> Result:
    """The stored counts, with what the variant publishes today, and its view's size."""
    variant = models.find(result.case.model)
    assert variant.clip is not None
    details = {**result.details, "view_size": variant.views.size or variant.clip.size}
    return dataclasses.replace(result, published=variant.published, details=details)


@pytest.fixture(scope="module")
def zoo() -> dict[str, Result]:
    return {result.case.model: today(result) for result in ledger.read(COUNTED)}


def test_every_gap_over_one_percent_has_a_reason(zoo):
    table = _published.gaps(list(zoo.values()))
    assert table is not None
    places = {column.name: i for i, column in enumerate(table.columns)}
    wide = {}
    for row in table.rows:
        ratios = [row.cells[places[f"{name}_ratio"]].value for name in ("gflops", "params")]
        reason = row.cells[places["reason"]].text
        if any(ratio and abs(ratio - 1) > 0.01 for ratio in ratios):
            wide[row.cells[0].text] = reason
        else:
            assert reason == _table.MISSING
    assert wide == {
        "tsm/r50_8f": "published with a head of 174 classes, for Kinetics too",
        "tsm/r50_16f": "published with a head of 174 classes, for Kinetics too",
        "tsm/r101_8f": "views of 256² pixels, published for 224²",
        "tsm/mobileone_s4_16f": "views of 256² pixels, published for 224²",
    }
    assert {"mvit/b_16x4", "timesformer/b", "vivit/b", "video_swin/t", "dualformer/t"} <= {
        row.cells[0].text for row in table.rows
    }
    assert "timesformer/b_joint" not in {row.cells[0].text for row in table.rows}  # its siblings' are not its own


def test_published_counts_name_their_view(zoo):
    rows = [row for result in zoo.values() for row in _published.own(result)]
    assert [row.model for row in rows if row.gflops and not row.size] == []


@pytest.mark.parametrize("kind", ["terminal", "markdown", "latex", "html"])
def test_both_sizes_stand_beside_the_counts(zoo, kind):
    text = str(reports.render([zoo["tsm/r101_8f"]], kind, columns=["all"] if kind == "terminal" else ()))
    for part in ("Ours beside published", "81.8", "62.66", "1.306", "views of 256² pixels, published for 224²"):
        assert part in text


def test_a_papers_table_says_the_size(zoo):
    [*_, source] = paper.table([zoo["tsm/r101_8f"]]).notes
    assert source.startswith("published for sthv2, GFLOPs for 224² pixels: ")
    assert [row.cells[0].text for row in paper.table([zoo["mvit/b_16x4"]]).rows] == ["mvit/b_16x4", "MViT-B, 16x4"]


def test_a_gap_that_nobody_explains_says_that():
    row = Published(model="tsm/r50_8f", dataset="K400", source="x", gflops=30.0, size=224)
    counted = {"gflops_view": Metric(value=33.0, unit="GFLOPs")}
    result = Result(
        case=Case(model="tsm/r50_8f"), status="ok", started="", seconds=1.0, metrics=counted, published=(row,),
        details={"view_size": 224},
    )  # fmt: skip
    assert _published.reason(result, row) == "no reason known"
    assert _published.reason(result, dataclasses.replace(row, gap="another stem")) == "another stem"
    assert _published.reason(result, dataclasses.replace(row, gflops=33.1)) == ""
    assert _published.gaps([dataclasses.replace(result, published=())]) is None
