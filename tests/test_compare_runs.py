"""A comparison of two runs, metric by metric: what is called a difference, and what is not."""

from __future__ import annotations

import dataclasses
import math
import random
import re

import numpy as np
import pytest
from reelbench.harness.errors import UserError
from reelbench.harness.result import Metric, Result
from reelbench.harness.spec import Case
from reelbench.reports import compare
from reelbench.tests.examples import RESULTS, measured
from rich.cells import cell_len


def verdicts(a: list[Result], b: list[Result]) -> list[str]:
    table = compare.compare(a, b)
    column = [c.name for c in table.columns].index("verdict")
    return [row.cells[column].text for row in table.rows]


def sampled(scale: float, *, name: str = "latency_ms", seed: int = 0, n: int = 60) -> Result:
    draw = random.Random(seed)
    samples = tuple(scale * math.exp(draw.gauss(0, 0.02)) for _ in range(n))
    return measured(sorted(samples)[n // 2], name=name, samples=samples)


def test_a_run_against_itself_shows_no_difference():
    assert set(verdicts(RESULTS, RESULTS)) <= {"no difference", "equal"}


@pytest.mark.parametrize(
    ("name", "scale", "expected"),
    [
        ("latency_ms", 0.8, "faster"),
        ("latency_ms", 1.25, "slower"),
        ("throughput_clips_s", 1.25, "faster"),
        ("throughput_clips_s", 0.8, "slower"),
        ("energy_j_clip", 1.25, "higher"),
        ("latency_ms", 1.03, "no difference"),  # real within these two runs, but runs vary that much
    ],
)
def test_a_difference_is_called_by_its_name(name: str, scale: float, expected: str):
    assert verdicts([sampled(1, name=name)], [sampled(scale, name=name, seed=1)]) == [expected]


def test_several_runs_a_side_are_rounds_and_need_no_margin():
    before = [measured(100 + i / 10) for i in range(8)]
    after = [measured(103 + i / 10) for i in range(8)]
    assert verdicts(before, after) == ["slower"]
    assert verdicts(before[:3], after[:3]) == ["too few rounds to tell"]


def test_what_varies_from_round_to_round_is_called_only_beyond_that():
    """Tails of a latency stray by a fifth between rounds, and no less between runs."""

    def run(scale: float) -> list[Result]:
        samples = tuple(scale * math.exp(stray) for stray in np.linspace(-0.2, 0.2, 8))
        return [measured(scale, samples=samples, rounds=(1,) * 8)]

    [barely], _ = compare.judge(run(1.0), run(1.35))
    assert (barely.p or 1) < 0.05
    assert barely.text == "no difference"
    assert verdicts(run(1.0), run(1.7)) == ["slower"]


def test_the_ratio_is_b_over_a():
    table = compare.compare([sampled(10)], [sampled(20, seed=1)])
    cell = table.rows[0].cells[[c.name for c in table.columns].index("ratio")]
    assert cell.value == pytest.approx(2, rel=0.02)
    assert re.fullmatch(r"\[1\.9\d\d, 2\.0\d\d\]", cell.interval)


def test_counts_and_accuracies_are_judged_without_samples():
    assert verdicts([measured(5, name="params")], [measured(5, name="params")]) == ["equal"]
    assert verdicts([measured(5, name="params")], [measured(6, name="params")]) == ["higher"]
    assert verdicts([measured(5, name="memory_resident_mib")], [measured(6, name="memory_resident_mib")]) == [
        "not tested: one value a side"
    ]
    a, b, c = (
        measured(v, name="top1", low=v - 4, high=v + 4)
        for v in (60.0, 62.0, 75.0)
    )  # fmt: skip
    assert verdicts([a], [b]) == ["no difference"]
    assert verdicts([a], [c]) == ["better"]
    assert verdicts([c], [a]) == ["worse"]


def test_cases_match_by_model_where_their_ids_differ():
    a, lonely = sampled(1), measured(1.0, model="vivit/b")
    b = dataclasses.replace(sampled(1, seed=1), case=Case(model="tsm/micro", precision="bf16"))
    table = compare.compare([a, lonely], [b])
    assert [row.case_id for row in table.rows] == [b.case_id]
    assert "tsm/micro is another case in B: precision fp32 -> bf16" in table.notes
    assert f"Only in A: vivit/b ({lonely.case_id})" in table.notes
    with pytest.raises(UserError, match="no measured case in common"):
        compare.compare([lonely], [b])


def test_false_alarms_are_rarer_than_one_report_in_twenty():
    """Two hundred reports of six metrics each, nothing ever different: a report alarms in at most 5 %."""
    draw = random.Random(0)
    names = ["latency_ms", "throughput_clips_s", "train_clips_s", "step_ms", "decode_clips_s", "energy_j_clip"]

    def side() -> list[Result]:
        runs = []
        for _ in range(10):
            metrics = {name: Metric(value=math.exp(draw.gauss(0, 0.05)), unit="") for name in names}
            runs.append(dataclasses.replace(measured(1.0), metrics=metrics))
        return runs

    alarms = sum(set(verdicts(side(), side())) != {"no difference"} for _ in range(200))
    assert alarms <= 17  # 5 % of 200, and two standard deviations


def test_a_comparison_renders_within_the_width():
    text = compare.render(RESULTS, RESULTS, width=100)
    assert max(map(cell_len, text.splitlines())) <= 100
    assert "no difference" in text
