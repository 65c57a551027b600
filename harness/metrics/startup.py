"""`first_batch_s`, `compile_s`: the cost of a model's first forward pass.

`first_batch_s` is the first forward pass of a fresh process, from a clip on the device to its logits; `compile_s` is
its excess over a steady-state pass, in modes that compile or capture a graph. Measured before every other metric.
"""

from __future__ import annotations

from statistics import median

from ...result import Metric
from ..measuring import timing
from . import Subject

STEADY = 3


def measure(subject: Subject) -> dict[str, Metric]:
    """Time the first forward pass of batch 1, and a few more."""
    clip = subject.example(1)
    with subject.timer.phase("measured"):
        first = timing.timed(lambda: subject.forward(clip), subject.device)
    convention = f"batch 1, {subject.convention}, one process start"
    found = {"first_batch_s": Metric(value=first, unit="s", convention=convention)}
    if subject.case.mode != "eager":
        with subject.timer.phase("measured"):
            later = median(timing.timed(lambda: subject.forward(clip), subject.device) for _ in range(STEADY))
        found["compile_s"] = Metric(value=max(0.0, first - later), unit="s", convention=convention)
    return found
