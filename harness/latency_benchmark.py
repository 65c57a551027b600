"""What `pytest --reelbench-suite` runs, once a case: see `pytest_plugin.py`, which has its fixtures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def test_latency(benchmark: Any, reelbench_step: Callable[[], None]) -> None:
    """Time one forward pass."""
    benchmark(reelbench_step)
