"""`latency_ms`: host-side latency of a forward pass at batch 1, from a clip on the device to its logits.

Besides the median, `latency_p90_ms` and `latency_p99_ms` if enough samples lie beyond them; on a GPU also
`latency_device_ms`, the pure kernel time without launch gaps (see `device_time`), and `launch_bound_fraction`, the
remaining fraction of the host's time: kernel launches and the final synchronization.
"""

from __future__ import annotations

from torch import Tensor

from ...result import Metric
from ..measuring import timing
from . import Subject


def measure(subject: Subject) -> dict[str, Metric]:
    """Time forward passes at batch 1."""
    taken = subject.time_one_clip()
    convention = f"batch 1, {subject.convention}, model only"
    host = [s * 1e3 for s in taken.host]
    found = {"latency_ms": timing.summary(host, "ms", convention)}
    for percent in (90, 99):
        known = timing.percentile(host, percent / 100, "ms", convention)
        if known is not None:
            found[f"latency_p{percent}_ms"] = known
    if subject.device.type == "cuda":
        found.update(_on_device(subject, subject.example(1), found["latency_ms"]))
    return found


def _on_device(subject: Subject, clip: Tensor, host: Metric) -> dict[str, Metric]:
    """Return the device-side latency of a clip, and the fraction of the host's latency beyond it."""
    taken, method = subject.on_device(clip)
    if not taken:
        subject.lacks("latency on the device")
        return {}
    device = timing.summary([s * 1e3 for s in taken], "ms", f"{host.convention}, {method}")
    share = launch_bound(host.value, device.value)
    return {
        "latency_device_ms": device,
        "launch_bound_fraction": Metric(value=share, unit="", convention=f"{host.convention}, host less device"),
    }


def launch_bound(host: float, device: float) -> float:
    """Return the fraction of the host's time beyond the device's, both in one unit; never below 0."""
    return max(0.0, 1 - device / host)
