"""`latency_ms`: one clip at a time, from a clip on the device to its logits."""

from __future__ import annotations

from .. import measure as timing
from ..result import Metric
from . import Subject


def measure(subject: Subject) -> dict[str, Metric]:
    """Time batch 1."""
    clip = subject.example(1)
    seconds = timing.samples(lambda: subject.forward(clip), subject.device, subject.budget)
    convention = f"batch 1, {subject.case.precision}, model only"
    return {"latency_ms": timing.summary([s * 1e3 for s in seconds], "ms", convention)}
