"""How many rounds a run takes, and what it says that they will show; workers and their clocks are stubs."""

from __future__ import annotations

import dataclasses
import math
import random
import re
from pathlib import Path

import pytest
from reelbench.errors import UserError
from reelbench.harness.cli.suite import run as verb
from reelbench.harness.events import Event
from reelbench.harness.suites import interleave
from reelbench.harness.suites import rounds as planning
from reelbench.harness.suites.rounds import Plan
from reelbench.reports import compare
from reelbench.result import Metric, Result
from reelbench.spec import Case

CASES = tuple(Case(model=f"{name}/micro", metrics=("latency",)) for name in ("tsm", "mvit"))


class Worker:
    """A case's process whose rounds vary by `spread`."""

    spread = 0.02

    def __init__(self, result: Result, out: Path) -> None:
        self.case, self.ended, self.child = result.case, None, self
        self.draw = random.Random(result.case.model)

    def measure(self, number: int, best_calibration: float) -> dict:
        metric = Metric(value=math.exp(self.draw.gauss(0, self.spread)), unit="ms", samples=(1.0, 2.0))
        return {
            "metrics": {"latency_ms": dataclasses.asdict(metric)},
            "machine": {"disturbed": []},
            "time_breakdown": {"wall": 30.0},
        }

    def close(self) -> None: ...


class Display:
    """Collects the notes."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def update(self, event: Event) -> None:
        if event.note:
            self.notes.append(event.note)


@pytest.fixture
def interleaved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Run two cases in rounds; return their results and what was said."""
    monkeypatch.setattr(interleave, "_Worker", Worker)
    alone = [Result(case=case, status="ok", started="", seconds=1.0) for case in CASES]

    def run(planned: Plan) -> tuple[list[Result], list[str]]:
        display = Display()
        return list(interleave.interleave(alone, tmp_path, planned, display)), display.notes  # type: ignore[arg-type]

    return run


def rounds_of(results: list[Result]) -> list[int]:
    return [len(r.metrics["latency_ms"].rounds) for r in results]


def test_as_many_rounds_are_taken_as_a_difference_needs(interleaved):
    found, notes = interleaved(Plan(planning.MOST, 0.06))
    first, second = rounds_of(found)
    assert first == second
    assert planning.FIRST < first < planning.MOST
    shown = re.fullmatch(r"(\d+) rounds, about (\d+) min, show .*latency \(the worst case ±([\d.]+)%\)", notes[-1])
    assert shown is not None
    assert (int(shown[1]), int(shown[2])) == (first, first)  # two cases of half a minute each
    assert float(shown[3]) <= 6


def test_rounds_that_are_there_are_not_taken_again(interleaved):
    before, _ = interleaved(Plan(planning.MOST, 0.06))
    again, notes = interleaved(Plan(planning.MOST, 0.06))
    assert rounds_of(again) == rounds_of(before)
    assert notes == []
    more, _ = interleaved(Plan(planning.MOST, 0.05))
    assert rounds_of(more)[0] > rounds_of(before)[0]


def test_a_given_number_of_rounds_is_taken_and_told_what_it_shows(interleaved):
    found, [note] = interleaved(Plan(8))
    assert rounds_of(found) == [8, 8]
    assert note.startswith("8 rounds, about 8 min, show differences of ±")
    values = planning.of_results(found)
    assert planning.sentence(values, 8, 480) == planning.sentence(planning.of_results(found), 8, 480) != ""
    assert planning.sentence({}, 8, 480) == ""


def test_the_difference_that_is_promised_is_found(interleaved):
    """Two runs as planned, one slower by what they show: four of five are called, and few of none."""
    draw = random.Random(3)
    size, called, alarms = 0.06, 0, 0
    rounds = planning.power.rounds_for(0.02, size)
    assert rounds is not None

    def side(scale: float) -> Result:
        now, shared, values = draw.gauss(0, 0.02), draw.gauss(0, 0.01), []
        for _ in range(rounds):
            now = 0.5 * now + math.sqrt(0.75) * draw.gauss(0, 0.02)
            values.append(scale * math.exp(shared + now))
        metric = Metric(value=scale, unit="ms", samples=tuple(values), rounds=(1,) * rounds)
        return Result(case=CASES[0], status="ok", started="", seconds=1.0, metrics={"latency_ms": metric})

    for _ in range(150):
        called += compare.judge([side(1.0)], [side(1 + size)])[0][0].text == "slower"
        alarms += compare.judge([side(1.0)], [side(1.0)])[0][0].text in ("slower", "faster")
    assert called >= 0.72 * 150
    assert alarms <= 0.09 * 150


def test_what_no_rounds_show_is_refused_at_once(tmp_path):
    with pytest.raises(UserError, match="one a side shows 4.1% at best"):
        verb("quick", out=tmp_path, detect="1%")
    with pytest.raises(UserError, match="such as 5%"):
        verb("quick", out=tmp_path, detect="five")


def test_an_accuracy_has_its_difference_too(tiny_synthetic, tmp_path):
    folder = str(tiny_synthetic["test"].parent)
    tested = Case(model="tsm/micro", data=folder, metrics=("accuracy",), checkpoint="x")
    [said] = planning.accuracy_sentences([tested, dataclasses.replace(tested, seed=1)])
    assert re.match(r"\d+ videos show a difference of [\d.]+ points between two models", said)
    assert planning.accuracy_sentences(CASES) == []
    assert "`--interleave` shows smaller ones" in planning.plain_sentence(CASES)
    assert planning.plain_sentence([tested]) == ""
