"""A report as one line a case, for a chat."""

from __future__ import annotations

from collections.abc import Sequence

from reelbench.result import Result


def render(results: Sequence[Result], *, title: str) -> str:
    """Return the cases and what was measured of them."""
    return "\n".join(f"*{result.case.model}* {_numbers(result)}" for result in results)


def _numbers(result: Result) -> str:
    return ", ".join(f"{name} {metric.value:.3g}" for name, metric in result.metrics.items())
