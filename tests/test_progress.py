"""What the suite's display says where there is no terminal: a line now and then, of what can be counted."""

from __future__ import annotations

import time

import pytest
from reelbench.harness.events import Event
from reelbench.harness.metrics import SELDOM, Subject
from reelbench.harness.progress import SuiteProgress, reporting
from reelbench.pipelines.progress import QUIET_SECONDS, counting
from reelbench.result import Metric, Result
from reelbench.spec import Case

CASE = Case(model="tsm/micro")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch):
    """A time that passes by hand, on the clock that a display or a metric looks at."""
    passed = [1000.0]
    for name in ("monotonic", "perf_counter"):
        monkeypatch.setattr(time, name, lambda: passed[0])
    return passed


def test_without_a_terminal_a_long_loop_says_how_far_it_is(clock, capsys):
    with SuiteProgress("test", 1, 0) as progress:
        progress.start(CASE)
        for done in range(0, 100, 10):
            clock[0] += QUIET_SECONDS / 4
            progress.update(Event(phase="order, reversed", done=done, total=100))
            progress.update(Event(phase="latency"))
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("  ")]
    assert lines == ["  order, reversed: 40 of 100", "  order, reversed: 90 of 100"]


def test_every_loop_tells_a_log_file_how_far_it_is(clock, capsys):
    with counting("videos", 100) as tell, reporting("probe") as report:
        for done in range(0, 100, 10):
            clock[0] += QUIET_SECONDS / 4
            tell(done)
            report(Event(phase="features", done=done, total=100))
    lines = capsys.readouterr().err.splitlines()
    assert lines == [f"{loop}: {done} of 100" for done in (40, 90) for loop in ("videos", "features")]
    with counting("videos", 100, visible=False) as tell:
        clock[0] += 2 * QUIET_SECONDS
        tell(50)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("metrics", "told"),
    [
        ({"top1": 50.0, "params": 2e6}, "top1 50 (2 s; 1 of 1 cases)"),
        ({"params": 2e6, "gflops_view": 3.0}, "2e+06, gflops_view 3 ("),
    ],
)
def test_a_finished_case_says_its_headlines_or_all_that_it_has(metrics, told, capsys):
    found = {name: Metric(value=value, unit="") for name, value in metrics.items()}
    with SuiteProgress("test", 1, 0) as progress:
        progress.finish(Result(case=CASE, status="ok", started="", seconds=2.0, metrics=found))
    assert told in capsys.readouterr().err


def test_a_loop_over_videos_is_told_seldom_and_to_its_end(clock):
    told = []
    made = Subject.__new__(Subject)
    made.videos, made._told, made.report = 100, 0.0, lambda event: told.append((event.phase, event.done))
    for done in (0, 1, 2, 3, 99, 100):
        clock[0] += SELDOM / 2 - 0.01
        made._tell("accuracy", done)
    assert told == [("accuracy", 0), ("accuracy", 3), ("accuracy", 100)]
