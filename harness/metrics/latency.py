"""`latency_ms`: one clip at a time, from a clip on the device to its logits, as the host waits for it.

Beside the median, `latency_p90_ms` and `latency_p99_ms` where enough samples lie beyond them, and on a GPU
`latency_device_ms`, the same between two events on the device: what launching the kernels does not add.
"""

from __future__ import annotations

from ...result import Metric
from ..measuring import timing
from . import Subject


def measure(subject: Subject) -> dict[str, Metric]:
    """Time batch 1."""
    clip = subject.example(1)
    taken = subject.time(lambda: subject.forward(clip))
    convention = f"batch 1, {subject.convention}, model only"
    host = [s * 1e3 for s in taken.host]
    found = {"latency_ms": timing.summary(host, "ms", convention)}
    for percent in (90, 99):
        known = timing.percentile(host, percent / 100, "ms", convention)
        if known is not None:
            found[f"latency_p{percent}_ms"] = known
    if taken.device:
        device = [s * 1e3 for s in taken.device]
        found["latency_device_ms"] = timing.summary(device, "ms", f"{convention}, CUDA events")
    return found
