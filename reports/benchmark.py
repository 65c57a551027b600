"""pytest-benchmark's JSON format: latencies under the names that `pytest --reelbench-suite` uses.

    reelbench report runs/latency --format benchmark --to .benchmarks/baseline.json
    pytest-benchmark compare .benchmarks/baseline.json
    pytest --reelbench-suite latency --benchmark-compare=.benchmarks/baseline.json --benchmark-compare-fail=median:5%

Samples come from the results, statistics are computed by pytest-benchmark.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from ..errors import UserError
from ..result import Result
from ._table import several


def render(results: Sequence[Result], *, title: str) -> str:
    """Return JSON of the latency samples (seconds) and their statistics; the title is unused.

    Cases without latency samples are left out. The machine is that of the last case.

    Raises UserError if no result has a latency, if they are of several machines, or pytest-benchmark is not installed.
    """
    timed = [r for r in results if "latency_ms" in r.metrics and r.metrics["latency_ms"].samples]
    if not timed:
        raise UserError("nothing to export: no case has measured its latency")
    if several(timed):
        raise UserError("this format is of one machine, here are several: choose one with --machine")
    environment = timed[-1].environment
    found = {
        "machine_info": {
            "node": "", "machine": "", "system": environment.get("system", ""),
            "python_version": environment.get("python", ""), "cpu": {"brand_raw": environment.get("cpu", "")},
        },
        "commit_info": {"id": environment.get("commit", ""), "dirty": environment.get("commit", "").endswith("-dirty")},
        "benchmarks": [_benchmark(result) for result in timed],
        "datetime": timed[-1].started,
        "version": _library().__version__,
        "reelbench": environment,
    }  # fmt: skip
    return json.dumps(found, indent=2, allow_nan=False) + "\n"


def _benchmark(result: Result) -> dict[str, Any]:
    name = f"test_latency[{result.case.benchmark}]"
    statistics = _library().stats.Stats()
    for sample in result.metrics["latency_ms"].samples:
        statistics.update(sample / 1e3)
    return {
        "group": None,
        "name": name,
        "fullname": f"reelbench::{name}",
        "params": None,
        "param": result.case.benchmark,
        "extra_info": {"case": result.case.to_json()},
        "options": {},
        "stats": {**statistics.as_dict(), "data": statistics.data, "iterations": 1},
    }


def _library() -> Any:
    try:
        import pytest_benchmark.stats
    except ImportError:
        raise UserError("--format benchmark needs pytest-benchmark: pip install pytest-benchmark") from None
    return pytest_benchmark
