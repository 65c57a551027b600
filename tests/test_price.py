"""What a test costs on a machine that is paid by the hour."""

from __future__ import annotations

from dataclasses import replace

import pytest
from reelbench.errors import UserError
from reelbench.harness.suites import ledger
from reelbench.reports import _points, _price, render
from reelbench.result import Metric, Result
from reelbench.spec import Case, Views

DISTURBED = frozenset({"machine_disturbed"})
RATE = Metric(value=20.0, unit="clips/s", low=16.0, high=25.0, convention="batch 8, fp32", flags=DISTURBED)  # type: ignore[arg-type]


def result(**metrics: Metric) -> Result:
    case = Case(model="tsm/r50_8f", views=Views(clips=2, crops=3))
    return Result(case=case, status="ok", started="", seconds=1.0, metrics=metrics)


def test_a_video_costs_all_its_views_and_a_slower_machine_more():
    [found] = _price.priced([result(throughput_clips_s=RATE)], 3.6)
    cost = found.metrics["usd_1000_videos"]
    # 3.6 $/hour are 0.001 $/s; 1,000 videos of 6 views take 300 s.
    assert (cost.value, cost.low, cost.high) == pytest.approx((0.3, 0.24, 0.375))
    assert cost.flags == RATE.flags
    assert cost.convention == "3.6 $/hour, model only, batch 8, fp32, 2×3 views"


def test_the_cost_is_the_axis_and_a_column_where_it_was_asked_for():
    rows = [result(throughput_clips_s=RATE, latency_ms=Metric(value=9.0, unit="ms"), top1=Metric(value=70.0, unit="%"))]
    priced = _price.priced(rows, 2.0)
    for some, name in ((rows, "latency_ms"), (priced, "usd_1000_videos")):
        shown = _points.plot(some)
        assert shown is not None
        assert shown.x.name == name
    text = render(priced, "terminal", plain=True)
    assert isinstance(text, str)
    assert "1,000 videos" in text


@pytest.mark.parametrize(
    ("rows", "price", "said"),
    [
        ([result(throughput_clips_s=RATE)], 0.0, "--price-per-hour 0: must be a positive number"),
        ([result(throughput_clips_s=RATE)], float("nan"), "must be a positive number"),
        ([result()], 2.0, "no case has a throughput_clips_s"),
    ],
)
def test_what_has_no_price_is_refused(rows, price, said):
    with pytest.raises(UserError, match=said):
        _price.priced(rows, price)


def test_the_verb_adds_it(tmp_path, reelbench):
    ledger.append(tmp_path, replace(result(throughput_clips_s=RATE)))
    code, out, _ = reelbench("report", tmp_path, "--price-per-hour", "3.6", "--columns", "usd_1000_videos")
    assert code == 0
    assert "0.300" in out
