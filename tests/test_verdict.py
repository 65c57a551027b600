"""The sentences that open a report: made from the numbers, the same ones every time, none without a number."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
import reelbench
from reelbench import reports
from reelbench.harness.suites import ledger
from reelbench.reports import _pairs, _table, _verdict
from reelbench.result import Metric, Result
from reelbench.spec import Case

REFERENCE = Path(reelbench.__file__).parent / "reports" / "reference" / "cpu"


def timed(model: str, ms: float, top1: float | None = None, **fields: object) -> Result:
    """A case whose five rounds scatter by one percent around `ms`, of 1,000 tested videos if there is a top-1."""
    rounds = tuple(ms * (1 + 0.005 * (i % 3 - 1)) for i in range(100))
    metrics = {"latency_ms": Metric(value=ms, unit="ms", low=0.99 * ms, high=1.01 * ms, samples=rounds)}
    if top1 is not None:
        metrics["top1"] = Metric(value=top1, unit="%", low=top1 - 3, high=top1 + 3)
    case = Case(model=model, data="d.parquet", checkpoint="c.pth", metrics=("latency", "accuracy"))
    return Result(case=case, status="ok", started="", seconds=1.0, metrics=metrics, **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize("suite", ["", "latency", "published", "learn"])
def test_a_stored_run_gives_at_most_six_sentences_each_with_a_number_and_always_the_same(suite: str):
    results = reports._rows(ledger.read(REFERENCE / suite), "terminal")
    said = _verdict.sentences(results)
    assert 0 < len(said) <= 6
    known = {result.case.label for result in results}
    for sentence in said:
        assert re.search(r"\d", sentence) or any(name in sentence for name in known)
        assert "nan" not in sentence
        assert sentence.endswith(".")
    assert said == _verdict.sentences(results)
    for kind in ("terminal", "markdown", "html"):
        text = " ".join(str(reports.render(ledger.read(REFERENCE / suite), kind)).split())
        start = said[0].partition(",")[0]
        assert start.replace("_", "") in text.replace("_", "")
        assert text.index(start) < text.index("Measured")


def test_the_front_is_told_with_both_numbers_and_what_the_intervals_leave_open():
    rows = [timed("a/quick", 1.0, 50.0), timed("a/best", 9.0, 80.0), timed("a/near", 9.0, 79.0), timed("a/bad", 20, 40)]
    assert _verdict.sentences(rows)[0] == (
        "On the Pareto front of top-1 over latency, from fast to accurate: a/quick 50.0 % at 1.00 ms, a/best 80.0 % at "
        "9.00 ms; the intervals leave it open for a/best, a/near."
    )


def test_differences_are_those_of_the_tests():
    rows = [timed("a/one", 1.0, 50.0), timed("a/same", 1.0, 51.0), timed("a/slow", 3.0, 80.0)]
    times, shares = _verdict.sentences(rows)[1:3]
    assert times.startswith("Latency: of 3 pairs 2 differ (corrected p < 0.05), the closest ")
    assert "a/slow (3.00× [" in times
    assert times.endswith("not told apart: (a/one, a/same).")
    assert shares.startswith(
        "Top-1: of 3 pairs 2 differ (corrected p < 0.05), the closest a/same and a/slow (+29.0 points"
    )
    assert _verdict.sentences([rows[0]]) == []


def test_accuracies_on_the_same_videos_are_tested_on_them():
    # Alone the intervals overlap; of the 1,000 videos one got 30 more right and the other none.
    a, b = timed("a/one", 1.0, 50.0), timed("a/two", 2.0, 53.0)
    apart = _pairs.pairs([a, b], _table.COLUMNS["top1"])
    assert [pair.finding for pair in apart] == ["alike"]
    known = replace(b, details={"paired": {a.case_id: [0, 30, 1000, 1.0]}})
    [pair] = _pairs.pairs([a, known], _table.COLUMNS["top1"])
    assert (pair.finding, pair.size) == ("differ", pytest.approx(3.0))
    assert pair.interval is not None
    assert 1.5 < pair.interval[0] < 3.0 < pair.interval[1] < 4.5
    merged = replace(known, details={**known.details, "seeds": [0, 1]})  # their mean is not of these predictions
    assert [pair.finding for pair in _pairs.pairs([a, merged], _table.COLUMNS["top1"])] == ["alike"]


def test_other_data_and_machines_are_not_compared():
    a, b = timed("a/one", 1.0, 50.0), timed("a/two", 2.0, 90.0)
    elsewhere = replace(b, environment={"cpu": "another"})
    assert _pairs.pairs([a, elsewhere], _table.COLUMNS["latency_ms"]) == []
    other = replace(b, case=replace(b.case, data="e.parquet"))
    assert _pairs.pairs([a, other], _table.COLUMNS["top1"]) == []
    assert len(_pairs.pairs([a, other], _table.COLUMNS["latency_ms"])) == 1


def test_cases_of_one_model_are_told_by_their_settings():
    one = timed("a/one", 1.0)
    half = replace(timed("a/one", 3.0), case=replace(one.case, precision="bf16"))
    [sentence] = _verdict.sentences([one, half])
    assert "a/one (fp32) and a/one (bf16)" in sentence


def test_limits_views_and_doubts_are_told_with_their_numbers():
    views = [
        {"views": name, "count": count, "metric": "top1", "accuracy": share, "low": 0, "high": 1}
        for name, count, share in (("1x1", 1, 60.0), ("5x1", 5, 69.5), ("10x1", 10, 70.0))
    ]
    limit = "The decoder limits: 95 clips/s together, decoder alone 100."
    rows = [timed(f"a/{n}", 1.0 + n, details={"limit": limit, "view_budget": views}) for n in range(2)]
    hot = replace(rows[0].metrics["latency_ms"], flags=frozenset({"machine_disturbed"}), warning="hot")
    rows[0].metrics["latency_ms"] = hot
    rows += [Result(case=Case(model="a/gone"), status="oom", started="", seconds=1.0, error="e")]
    said = _verdict.sentences(rows)
    assert said[-3:] == [
        "10x1 views instead of 1x1 change the accuracy of a/0 by +10.0 points (60.0 to 70.0 %) for 10 times the cost, "
        "those beyond 5x1 by +0.5.",
        "From files to logits, the decoder limits 2 of 2 cases: 95 clips/s together, decoder alone 100.",
        "Doubtful: a/0 for a disturbed machine, a/gone for not finishing; measure again when the machine is quiet, "
        "with --interleave.",
    ]
