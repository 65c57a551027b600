"""`jitter_ms`: how far the slowest of many forward passes at batch 1 is from the median."""

from __future__ import annotations

from statistics import median

from reelbench.harness.metrics import Subject
from reelbench.metric_table import MetricKind
from reelbench.result import Metric

KIND = MetricKind(interleaved=True)


def measure(subject: Subject) -> dict[str, Metric]:
    """Time forward passes of one clip."""
    clip = subject.example(1)
    seconds = subject.time(lambda: subject.forward(clip)).host
    return {"jitter_ms": Metric(value=1000 * (max(seconds) - median(seconds)), unit="ms", convention="batch 1")}
