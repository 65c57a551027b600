"""`latency_ms`: one clip at a time, from a clip on the device to its logits, as the host waits for it.

Beside the median, `latency_p90_ms` and `latency_p99_ms` where enough samples lie beyond them, and on a GPU
`latency_device_ms`, what the kernels take where none of them waits to be launched (see `device_time`).
`launch_bound_fraction` is the rest of the host's time: launching, and waking up at the end.
"""

from __future__ import annotations

from torch import Tensor

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
    if subject.device.type == "cuda":
        found.update(_on_device(subject, clip, found["latency_ms"]))
    return found


def _on_device(subject: Subject, clip: Tensor, host: Metric) -> dict[str, Metric]:
    """Return the device's own time of a clip, and the share of the host's time that it leaves."""
    taken, told = subject.on_device(clip)
    if not taken:
        subject.lacks("latency on the device")
        return {}
    device = timing.summary([s * 1e3 for s in taken], "ms", f"{host.convention}, {told}")
    share = launch_bound(host.value, device.value)
    return {
        "latency_device_ms": device,
        "launch_bound_fraction": Metric(value=share, unit="", convention=f"{host.convention}, host less device"),
    }


def launch_bound(host: float, device: float) -> float:
    """Return the share of the host's time in which the device had nothing to do."""
    return max(0.0, 1 - device / host)
