"""What docs/power.md shows, on fewer simulated reports: from the stored samples of 26 models, 78 numbers a report."""

from __future__ import annotations

from pathlib import Path

import pytest
from reelbench.result import Result
from reelbench.tests import power

STORED = Path(__file__).parent.parent / "reports" / "reference" / "cpu" / "latency" / "results.jsonl"


@pytest.fixture(scope="module")
def results() -> list[Result]:
    return power.load(STORED)


def test_eight_rounds_call_what_is_twice_as_slow_and_most_of_a_fifth(results):
    assert power.power(results, 8, 2.0, 1, drifts=True) == (1.0, 1.0)
    every, one = power.power(results, 8, 1.2, 2, drifts=True)
    assert every >= 0.8
    assert one >= 0.5


def test_equal_runs_alarm_in_at_most_one_report_of_twenty(results):
    """Of 16 reports, four or more would alarm once in a hundred times if one in twenty did."""
    assert power.alarms(results, 8, 16, drifts=True) < 4 / 16


def test_no_gate_passes_what_is_slower_by_its_percentage(results):
    found = power.gates(results, 32, 1.06, 2, drifts=False)
    assert found[0] == 0
    assert found[1] + found[3] == 2


def test_groups_keep_the_coverage_that_plain_intervals_lose():
    with_groups, without = power.coverage(50, 0.8, 0.3, 300)
    assert with_groups >= 0.92
    assert without < 0.88
