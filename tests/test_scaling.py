"""What more ranks bring: a training's clips/s against those of one rank."""

from __future__ import annotations

from dataclasses import replace

import pytest
from reelbench.reports import _scaling, render
from reelbench.result import Metric, Result
from reelbench.spec import Case, Recipe

CASE = Case(model="tsm/micro", recipe=Recipe(batch=16), metrics=("data_stall",))


def result(case: Case, rate: float, machine: str = "A", low: float | None = None, high: float | None = None) -> Result:
    found = Metric(value=rate, unit="clips/s", low=low, high=high)
    environment = {"gpus": [], "cpu": machine, "cores": 2}
    return Result(
        case=case, status="ok", started="", seconds=1.0, metrics={"train_clips_s": found}, environment=environment
    )


def efficiency(*results: Result) -> Metric | None:
    return _scaling.scaled(results)[-1].metrics.get("scaling_efficiency")


def test_the_same_global_batch_on_more_ranks_is_strong_scaling():
    found = efficiency(
        result(CASE, 100.0, low=90.0, high=110.0), result(replace(CASE, ranks=4), 300.0, low=280, high=310)
    )
    assert found is not None
    assert (found.value, found.low, found.high) == pytest.approx((0.75, 280 / 440, 310 / 360))
    assert found.convention.startswith("strong scaling, 4 ranks, against 1 rank at global batch 16 (")


def test_the_same_batch_per_rank_is_weak_scaling():
    four = replace(CASE, ranks=4, recipe=Recipe(batch=64))
    found = efficiency(result(CASE, 100.0), result(four, 380.0))
    assert found is not None
    assert (found.value, found.low) == (0.95, None)
    assert found.convention.startswith("weak scaling, 4 ranks")


@pytest.mark.parametrize(
    "other",
    [
        result(replace(CASE, workers=4), 100.0),  # fed otherwise
        result(replace(CASE, recipe=Recipe(batch=16, zero=2)), 100.0),
        result(CASE, 100.0, machine="B"),
    ],
)
def test_what_was_trained_otherwise_is_no_base(other):
    assert efficiency(other, result(replace(CASE, ranks=2), 150.0)) is None


@pytest.mark.parametrize("kind", ["terminal", "markdown", "html", "csv"])
def test_every_report_shows_it(kind):
    text = str(render([result(CASE, 100.0), result(replace(CASE, ranks=2), 150.0)], kind))
    assert ("0.75" if kind == "csv" else "75") in text
    assert ("scaling_efficiency" if kind == "csv" else "scaling") in text
