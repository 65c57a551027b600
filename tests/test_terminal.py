"""The terminal's report: one table that fits 100 character cells, the Pareto front first; the rest on request."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import reelbench
from reelbench import reports
from reelbench.errors import UserError
from reelbench.harness.suites import ledger
from reelbench.reports import _compact, _points, terminal
from reelbench.result import Metric, Result
from reelbench.spec import Case, Published
from reelbench.tests.examples import RESULTS
from rich.cells import cell_len

REFERENCE = Path(reelbench.__file__).parent / "reports" / "reference" / "cpu"
SUITES = ["", "latency", "published", "learn"]


def stored(suite: str) -> list[Result]:
    return ledger.read(REFERENCE / suite)


def shown(results: Sequence[Result], columns: Sequence[str] = ()) -> str:
    return terminal.render(reports._rows(results, "terminal"), title="x", columns=columns, plain=True)


def at(model: str, top1: float | None, ms: float, **fields: object) -> Result:
    metrics = {"latency_ms": Metric(value=ms, unit="ms", low=0.9 * ms, high=1.2 * ms)}
    if top1 is not None:
        metrics["top1"] = Metric(value=top1, unit="%")
    case = Case(model=model)
    return Result(case=case, status="ok", started="", seconds=1.0, metrics=metrics, **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize("suite", SUITES)
def test_the_report_of_a_stored_run_is_one_table_of_60_lines_and_100_columns(suite: str):
    lines = shown(stored(suite)).splitlines()
    assert max(map(cell_len, lines)) <= 100
    assert len(lines) < 60
    assert sum(line.startswith("model  ") for line in lines) == 1
    assert not any("published," in line or "README" in line for line in lines)


def test_the_columns_that_answer_come_first_and_the_rest_on_request():
    table = _compact.compact(stored(""), 100, 2)
    assert [c.name for c in table.columns] == [
        "model", "top1", "latency_ms", "throughput_clips_s", "gflops_view", "params", "memory_resident_mib", "flags",
    ]  # fmt: skip
    assert "10 more columns: --all, or --columns top5" in table.caption
    every = shown(stored(""), ["all"])
    assert "decoding" in every
    assert "Published, not measured here" in every
    two = shown(stored(""), ["step_ms", "top1"])
    assert "training step" in two
    assert "latency" not in two
    with pytest.raises(UserError, match="did you mean 'step_ms'"):
        shown(stored(""), ["stepms"])
    with pytest.raises(UserError, match="--format csv shows no chosen columns"):
        reports.render(RESULTS, "csv", columns=["top1"])


def test_a_number_has_the_wider_side_of_its_interval_and_a_batch_that_differs():
    slow, quick = at("tsm/micro", None, 10.0), at("tps/micro", None, 5.0)
    for n, result in enumerate((slow, quick), 1):
        result.metrics["throughput_clips_s"] = Metric(value=9.0, unit="clips/s", convention=f"batch {n}, fp32")
    table = _compact.compact([slow, quick], 100, 2)
    assert [row.cells[1].full for row in table.rows] == ["5.00 ±1.00", "10.0 ±2.0"]
    assert [row.cells[2].full for row in table.rows] == ["9.00 @2", "9.00 @1"]
    assert table.columns[2].header == "throughput @ batch"


def test_rows_are_sorted_by_pareto_front():
    rows = [at("a/beaten", 50.0, 3.0), at("a/best", 90.0, 9.0), at("a/quick", 60.0, 1.0), at("a/untested", None, 0.5)]
    table = _compact.compact(rows, 100, 2)
    assert [row.cells[0].text for row in table.rows] == ["a/quick", "a/best", "a/beaten", "a/untested"]
    assert "the Pareto front first (2 of 4)" in table.caption
    plot = _points.plot(rows)
    assert plot is not None
    assert [[p.model for p in front] for front in _points.fronts(plot)] == [["a/quick", "a/best"], ["a/beaten"]]


def test_settings_that_differ_stand_in_one_column():
    cases = [Case(model="tsm/micro", precision=p, mode=m) for p in ("fp32", "bf16") for m in ("eager", "compile")]  # type: ignore[arg-type]
    rows = [Result(case=c, status="ok", started="", seconds=1.0, metrics=at("a", 1.0, 2.0).metrics) for c in cases]
    table = _compact.compact(rows, 100, 2)
    assert table.columns[1].name == "settings"
    assert {row.cells[1].text for row in table.rows} == {
        "fp32 · eager", "fp32 · compile", "bf16 · eager", "bf16 · compile",
    }  # fmt: skip


def test_a_case_without_accuracy_has_the_published_one_of_its_model_clip_and_views():
    def row(dataset: str, top1: float, **fields: str) -> Published:
        return Published(model="tsm/r50_8f", dataset=dataset, source="S", top1=top1, **fields)  # type: ignore[arg-type]

    printed = (
        row("kinetics400", 73.0, views="1x10"), row("kinetics400", 74.0, views="1x10", pretrain="ImageNet-21K"),
        row("kinetics400", 99.0, views="10x3"), row("sthv2", 62.0, views="1x10"),
        Published(model="tsm/r101_8f", dataset="kinetics400", source="S", top1=98.0, views="1x10"),
    )  # fmt: skip
    plain = at("tsm/r50_8f", None, 10.0, published=printed, details={"views": "1x10"})
    [cells] = [row.cells for row in _compact.compact([plain], 100, 2).rows]
    assert (cells[1].text, cells[1].hint) == (
        "74.0", "published for kinetics400, pre-trained on ImageNet-21K, 1×10 views: S",
    )  # fmt: skip
    tested = at("tsm/r50_8f", 50.0, 10.0, published=printed)
    assert "top1_published" not in [c.name for c in _compact.compact([tested], 100, 2).columns]
