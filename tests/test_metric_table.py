"""One table says what each number is: reports, comparisons, progress and plots agree, for metrics of one's own too."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest
from reelbench import discover, reports
from reelbench.metric_table import METRICS, QUANTITIES, quantity
from reelbench.reports import compare
from reelbench.reports._gate import decide
from reelbench.result import Metric, Result
from reelbench.spec import Case

ROOT = Path(__file__).parent.parent
STORED = sorted((ROOT / "reports/reference").rglob("results.jsonl"))


def result(name: str, value: float, unit: str, **fields) -> Result:
    """A case with one metric; samples, so that it can be compared, unless an interval is given."""
    samples = () if fields.get("low") else tuple(value * (1 + 0.001 * i) for i in range(20))
    metric = Metric(value=value, unit=unit, samples=samples, **fields)
    return Result(case=Case(model="tsm/micro"), status="ok", started="", seconds=1.0, metrics={name: metric})


@pytest.mark.parametrize(
    ("name", "unit", "fields", "said"),
    [
        ("my_clips_s", "clips/s", {}, "faster"),
        ("my_wait_ms", "ms", {}, "slower"),
        ("my_score", "points", {"better": "higher"}, "higher"),
        ("latency_ms", "ms", {}, "slower"),
        ("throughput_clips_s", "clips/s", {}, "faster"),
    ],
)
def test_a_metric_of_ones_own_is_judged_the_right_way_round(name, unit, fields, said):
    draws = [[result(name, value + 0.01 * i, unit, **fields) for i in range(8)] for value in (100.0, 130.0)]
    [found], _ = compare.judge(*draws)
    assert found.text == said
    rule = "slower:5%"
    assert bool(decide(*draws, rule).failing) is (said == "slower")


@pytest.mark.parametrize("name", [row.name for row in QUANTITIES.values() if row.kind == "share"])
def test_every_share_of_the_videos_is_tested(name):
    sides = [[result(name, value, "%", low=value - 2, high=value + 2)] for value in (80.0, 40.0)]
    [found], _ = compare.judge(*sides)
    assert found.text == "worse"


def test_a_metric_of_ones_own_stands_in_every_report():
    own = result("my_clips_s", 12.0, "clips/s")
    for kind in ("terminal", "markdown", "csv", "latex", "html"):
        assert "my" in str(reports.render([own], kind)), kind
    [column] = reports._table.metric_columns([own])
    assert (column.better, column.timed, column.label) == ("higher", True, "my_clips_s (clips/s)")


def test_what_the_table_lacks_is_told_by_its_unit_or_says_it_itself():
    assert quantity("a", "ms").better == "lower"
    assert quantity("a", "J/clip").kind == "energy"
    assert quantity("a", "points").better == ""
    assert quantity("a", "points", "higher").better == "higher"
    assert quantity("latency_ms", "furlongs").header == "latency"


def test_metrics_of_earlier_versions_are_read_under_their_new_names():
    case = {"model": "tsm/micro", "metrics": ["peak", "stall", "step", "latency"]}
    numbers = {"peak_fraction": {"value": 0.5, "unit": ""}}
    details = {"metric_seconds": {"peak": 1.0}, "rounds": [{"pace_ms": [1.0, 2.0]}], "spent": {"wall": 3.0}}
    old = {
        "schema": 1,
        "case": case,
        "metrics": numbers,
        "details": details,
        "status": "ok",
        "started": "",
        "seconds": 1,
    }
    found = Result.from_json(json.dumps(old))
    assert found.case.metrics == ("mfu", "data_stall", "train_step", "latency")
    assert found.metrics["mfu"].value == 0.5
    assert found.details["metric_seconds"] == {"mfu": 1.0}
    assert found.details["rounds"] == [{"calibration_ms": [1.0, 2.0]}]
    assert found.details["time_breakdown"] == {"wall": 3.0}


def test_every_metric_has_its_file_and_every_file_its_row():
    assert sorted(METRICS) == discover.names("harness.metrics")


def test_every_number_that_a_metric_measures_has_a_row():
    """Read from the code: names that a metric's file gives a number, in a dict or by an item's assignment."""
    suffixes = ("_ms", "_s", "_mib", "_fraction", "_tflops", "_j_clip", "_j_video", "gflops_view", "gflops_video")
    found = set()
    for path in (ROOT / "harness/metrics").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            keys = node.keys if isinstance(node, ast.Dict) else [node.slice] if isinstance(node, ast.Subscript) else []
            found |= {key.value for key in keys if isinstance(key, ast.Constant) and isinstance(key.value, str)}
    emitted = {name for name in found if name.endswith(suffixes)} - {"alone_clips_s", "clips_s"}
    assert {"latency_ms", "throughput_clips_s", "memory_resident_mib"} <= emitted
    assert emitted <= QUANTITIES.keys(), f"measured, but not in the table: {sorted(emitted - QUANTITIES.keys())}"


@pytest.mark.parametrize("path", STORED, ids=lambda path: path.parent.name)
def test_results_of_earlier_versions_stay_readable(path: Path):
    lines = path.read_text(encoding="utf-8").splitlines()
    stored = [Result.from_json(line) for line in lines]
    assert len(stored) == len(lines) > 0
    names = {name for one in stored for name in one.metrics}
    assert names <= QUANTITIES.keys()
    assert {name for one in stored for name in one.case.metrics} <= METRICS.keys()
    assert all(one.details["time_breakdown"]["wall"] > 0 for one in stored)
    states = [state for one in stored for state in one.details.get("rounds", [one.details["machine"]])]
    assert all(state["calibration_ms"] for state in states)
    for one in stored:
        for metric in one.metrics.values():
            assert metric.warning.startswith("disturbed") is ("machine_disturbed" in metric.flags)
        assert Result.from_json(one.to_json()) == one
