"""`energy_j_clip`, `energy_j_video`: joules from NVML's energy counter over a window long enough for it.

The counter is the whole board's, idle power included; it moves in steps of tens of milliseconds, so the window lasts
seconds. Only on a GPU (Volta or newer).
"""

from __future__ import annotations

import time

import torch

from .. import measure as timing
from ..result import Metric
from . import Subject, throughput

WINDOW = 3.0


def measure(subject: Subject) -> dict[str, Metric]:
    """Run at the best batch for the window and divide the joules by the clips."""
    if subject.device.type != "cuda":
        return {}
    batch = subject.case.batch or throughput.best_batch(subject)
    clip = subject.example(batch)
    timing.warm_up(lambda: subject.forward(clip), subject.device, limit=1.0)
    joules, steps = _window(subject, clip)
    convention = f"batch {batch}, {subject.case.precision}, model only, board energy with idle power"
    each = joules / (steps * batch)
    return {
        "energy_j_clip": Metric(value=each, unit="J", convention=convention),
        "energy_j_video": Metric(
            value=each * subject.views.count, unit="J", convention=f"{convention}, {subject.views}"
        ),
    }


def _window(subject: Subject, clip: torch.Tensor) -> tuple[float, int]:
    import pynvml

    pynvml.nvmlInit()
    uuid = torch.cuda.get_device_properties(subject.device).uuid
    handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}")
    timing.synchronize(subject.device)
    before, begin, steps = pynvml.nvmlDeviceGetTotalEnergyConsumption(handle), time.perf_counter(), 0
    while time.perf_counter() - begin < WINDOW:
        subject.forward(clip)
        timing.synchronize(subject.device)
        steps += 1
    return (pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) - before) / 1e3, steps
