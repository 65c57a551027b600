"""Cases that differ in their seed alone are one row: the mean and Student's interval."""

from __future__ import annotations

import dataclasses
import random

import pytest
from reelbench import reports
from reelbench.harness.suites import load
from reelbench.reports import _measured, _seeds
from reelbench.result import Metric, Result
from reelbench.spec import Case


def result(seed: int, top1: float, **case) -> Result:
    metrics = {
        "top1": Metric(value=top1, unit="%", low=top1 - 5, high=top1 + 5, convention="1x1 views"),
        "params": Metric(value=250_000, unit=""),
    }
    made = Case(**{"model": "tsm/micro", "seed": seed, **case})
    return Result(case=made, status="ok", started="2026-01-05T10:00:00", seconds=60.0, metrics=metrics)


SEEDS = [result(0, 40.0), result(1, 44.0), result(2, 48.0)]


def test_three_seeds_are_one_row_with_the_mean_and_its_interval():
    [row] = _seeds.merge(SEEDS)
    assert row.metrics["top1"].value == pytest.approx(44.0)
    half = 4.302653 * 4 / 3**0.5  # the tabled quantile of two degrees of freedom, a deviation of 4
    assert row.metrics["top1"].low == pytest.approx(44 - half, abs=1e-4)
    assert row.metrics["top1"].high == pytest.approx(44 + half, abs=1e-4)
    assert row.metrics["top1"].convention == "1x1 views; mean over 3 seeds, t-interval"
    assert row.metrics["params"] == SEEDS[0].metrics["params"]
    assert row.seconds == 180
    assert _seeds.merge([row]) == [row]


def test_only_the_seed_may_differ():
    alone = [result(0, 40.0), result(1, 44.0, batch=4), result(1, 30.0, model="vivit/micro")]
    assert _seeds.merge(alone) == alone
    assert _seeds.merge([SEEDS[0], SEEDS[0]]) == [SEEDS[0], SEEDS[0]]  # one case of two runs, no two seeds
    failed = dataclasses.replace(SEEDS[2], status="failed", error="broken", metrics={})
    merged = _seeds.merge([SEEDS[0], failed, SEEDS[1]])
    assert [r.status for r in merged] == ["ok", "failed"]
    assert merged[0].details["seeds"] == [0, 1]


def test_a_share_stays_a_share():
    [row] = _seeds.merge([result(0, 1.0), result(1, 99.0)])
    assert (row.metrics["top1"].low, row.metrics["top1"].high) == (0.0, 100.0)


@pytest.mark.parametrize("kind", ["terminal", "markdown", "latex", "html"])
def test_every_report_states_the_number_of_seeds(kind: str):
    other = [dataclasses.replace(r, case=dataclasses.replace(r.case, model="vivit/micro")) for r in SEEDS]
    text = reports.render([*SEEDS, *other], kind)
    assert isinstance(text, str)
    assert "0, 1, 2 (mean of 3)" in text
    assert "mean over 3 seeds, t-interval" in text.replace("\n", " ")
    assert ("±9.9" if kind == "terminal" else "34.1") in text  # the interval's lower end
    every = reports.render([*SEEDS, *other], kind, columns=["all"] if kind == "terminal" else ())
    for case in SEEDS:
        assert case.case_id in str(every)


def test_the_mean_keeps_the_advice_of_a_seed_that_did_not_learn():
    last = dataclasses.replace(SEEDS[2], details={"learned": False, "advice": "another lr"})
    [row] = _seeds.merge([*SEEDS[:2], last])
    assert (row.details.get("learned"), row.details.get("advice")) == (False, "another lr")


def test_csv_keeps_every_seed():
    assert str(reports.render(SEEDS, "csv")).count("tsm/micro") == 3


def test_single_seeds_are_reported_as_ever():
    table = _measured.measured(_seeds.merge(SEEDS[:1]))
    assert "seed 0" in table.caption
    assert table == _measured.measured(SEEDS[:1])


@pytest.mark.parametrize(("freedom", "value"), [(1, 12.7062), (2, 4.3027), (3, 3.1824), (4, 2.7764), (30, 2.0423)])
def test_the_quantile_is_the_tabled_one(freedom: int, value: float):
    assert _seeds.t_quantile(freedom) == pytest.approx(value, abs=1e-4)


def test_the_interval_holds_the_truth_as_often_as_it_says():
    draw = random.Random(0)
    held = 0
    for _ in range(2000):
        _, low, high = _seeds.mean_interval([draw.gauss(10, 2) for _ in range(3)])
        held += low <= 10 <= high
    assert 0.93 < held / 2000 < 0.97


def test_learn_trains_every_family_from_five_seeds():
    cases = load.load("learn").cases
    assert {case.model for case in cases} == {case.model for case in load.load("quick").cases}
    done = [dataclasses.replace(SEEDS[0], case=case) for case in cases]
    assert [r.details["seeds"] for r in _seeds.merge(done)] == [[0, 1, 2, 3, 4]] * (len(cases) // 5)
    assert {case.data for case in cases} == {"synthetic-hard"}


def test_what_makes_one_seed_doubtful_makes_the_mean_doubtful():
    [first, second, third] = SEEDS
    doubtful = dataclasses.replace(third.metrics["top1"], flags=frozenset({"machine_disturbed"}))
    third = dataclasses.replace(third, metrics={**third.metrics, "top1": doubtful})
    [row] = _seeds.merge([first, second, third])
    assert row.metrics["top1"].flags == {"machine_disturbed"}
