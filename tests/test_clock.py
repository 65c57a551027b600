"""Where the time goes, on a clock that passes by hand: a second belongs to the innermost part, and none is lost."""

from __future__ import annotations

import dataclasses

import pytest
from reelbench import reports
from reelbench.harness.measuring import phases
from reelbench.intervals import total
from reelbench.reports import _seeds, _time_breakdown, html
from reelbench.result import Result
from reelbench.spec import Case

SPENT = {"wall": 301.0, "start": 60.4, "compile": 0.0, "warm_up": 21.0, "measured": 212.0, "rest": 7.6}


class Hands:
    def __init__(self) -> None:
        self.now = 0.0

    def wait(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def hands(monkeypatch: pytest.MonkeyPatch) -> Hands:
    made = Hands()
    monkeypatch.setattr(phases.time, "perf_counter", lambda: made.now)
    return made


def result(seed: int = 0, **spent: float) -> Result:
    made = Result(case=Case(model="tsm/micro", seed=seed), status="ok", started="2026-01-05T10:00:00", seconds=1.0)
    return dataclasses.replace(made, details={"time_breakdown": {**SPENT, **spent}}) if spent else made


class Stream:
    def __init__(self, hands: Hands, waits: list[float]) -> None:
        self.hands, self.waits = hands, waits

    def epoch(self):
        for number, seconds in enumerate(self.waits):
            self.hands.wait(seconds)
            yield number


def test_the_innermost_part_has_the_time(hands):
    made = phases.PhaseTimer()
    hands.wait(1)
    with made.phase("measured"):
        hands.wait(2)
        with made.phase("compile"):
            hands.wait(4)
        hands.wait(8)
    hands.wait(16)
    assert made.read() == {"start": 0, "compile": 4, "warm_up": 0, "measured": 10, "rest": 17}


def test_a_part_that_fails_is_closed(hands):
    made = phases.PhaseTimer()

    def fail():
        with made.phase("training"):
            hands.wait(3)
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        fail()
    hands.wait(1)
    assert made.read()["training"] == 3
    assert made.read()["rest"] == 1


def test_the_wait_for_a_streams_first_batch_is_its_start(hands):
    made = phases.PhaseTimer()
    with made.phase("measured"):
        assert list(made.batches(Stream(hands, [5, 1, 2]))) == [0, 1, 2]
    assert made.read()["start"] == 5
    assert made.read()["measured"] == 3
    assert list(made.batches(Stream(hands, []))) == []


def test_seconds_are_moved_and_not_made(hands):
    made = phases.PhaseTimer()
    hands.wait(10)
    made.move("warm_up", 4)
    found = made.read()
    assert (found["warm_up"], found["rest"], sum(found.values())) == (4, 6, 10)


def test_an_account_is_closed_with_what_no_part_has(hands):
    made = phases.PhaseTimer()
    with made.phase("start"):
        hands.wait(2)
    hands.wait(1)
    found = phases.finalize(made.read(), start=3.0, wall=6.25)
    assert found == {"wall": 6.25, "start": 5.0, "compile": 0, "warm_up": 0, "measured": 0, "rest": 1.25}
    assert phases.finalize({}, start=3.0, wall=7.0) == {"wall": 7.0, "start": 3.0, "lost": 4.0}
    assert total([found, {"wall": 1.0, "lost": 1.0}, {}]) == {**found, "wall": 7.25, "lost": 1.0}


def test_one_line_sums_a_run():
    said = "measured 212 s of 301 s: process starts 60 s, compiles 0 s, warm-ups 21 s; the harness itself 8 s (1.04x)"
    assert _time_breakdown.sentence([result(rest=7.6)]) == said
    assert "training 40 s; the" in _time_breakdown.sentence([result(training=40.0)])
    assert _time_breakdown.sentence([result()]).startswith("nothing was measured")
    nothing = _time_breakdown.sentence([result(measured=0.0)])
    assert nothing.startswith("measured 0 s of 301 s")
    assert nothing.endswith("the harness itself 8 s")


@pytest.mark.parametrize("kind", ["html", "markdown"])
def test_a_report_shows_where_the_time_of_each_case_went(kind: str):
    text = reports.render([result(rest=7.6), result(1)], kind)
    assert isinstance(text, str)
    assert "Where the time went" in text
    assert _time_breakdown.sentence([result(rest=7.6)])[1:] in text
    assert "Where the time went" not in reports.render([result()], kind)


def test_of_many_cases_the_page_shows_the_first(monkeypatch):
    monkeypatch.setattr(html, "PAGE", 2)
    text = reports.render([result(rest=1.0)] * 3, "html")
    assert isinstance(text, str)
    section = text.partition('id="time_breakdown"')[2].partition("</section>")[0]
    assert section.count("<tr data-index") == 2
    assert "1 more rows are in the Markdown report." in section


def test_a_table_has_the_parts_that_took_time_and_the_seeds_together():
    [merged] = _seeds.merge([result(0, rest=7.6), result(1, rest=7.6)])
    table = _time_breakdown.table([merged])
    assert table is not None
    names = [column.name for column in table.columns]
    assert names == ["model", "wall", "start", "compile", "warm_up", "measured", "rest", "factor", "case_id"]
    assert [cell.text for cell in table.rows[0].cells[1:-1]] == [
        "602.0",
        "120.8",
        "0.0",
        "42.0",
        "424.0",
        "15.2",
        "1.04",
    ]
