"""The test that `pytest --reelbench-suite` runs for each case; its fixtures are in the plugin's `__init__.py`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def test_latency(benchmark: Any, reelbench_case: Any, reelbench_step: Callable[[], None]) -> None:
    """Benchmark the case's forward pass."""
    benchmark.fullname = (
        f"reelbench::test_latency[{reelbench_case.benchmark}]"  # pytest's default contains the installation's path
    )
    benchmark.params = None
    benchmark.extra_info["case"] = reelbench_case.to_json()
    benchmark(reelbench_step)
