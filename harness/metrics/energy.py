"""`energy_j_clip`, `energy_j_video`: joules from NVML's energy counter.

The counter covers the whole board, idle power included (stated in the convention). It is updated only every tens of
milliseconds, so the window lasts seconds. On a GPU without the counter (a MIG slice, a virtual GPU) the report lists
energy as not available.
"""

from __future__ import annotations

import time
from typing import Any

import torch

from ...errors import UnsupportedError
from ...result import Metric
from ..measuring import nvml, timing
from . import Subject, throughput

WINDOW = 3.0
IDLE = 1.0


def measure(subject: Subject) -> dict[str, Metric]:
    """Run the model at its best batch for `WINDOW` seconds and divide the joules by the number of clips.

    Returns {} on a CPU and on a GPU without the counter. Raises UnsupportedError if the counter stops answering.
    """
    handle = counter(subject)
    if handle is None:
        return {}
    batch = throughput.best_batch(subject)
    clip = subject.example(batch)
    timing.synchronize(subject.device)
    with subject.timer.phase("measured"):
        idle = _idle_watts(handle)
    with subject.timer.phase("warm_up"):
        timing.warm_up(lambda: subject.forward(clip), subject.device, limit=1.0)
    with subject.timer.phase("measured"):
        joules, seconds, steps = _window(subject, clip, handle)
    subject.notes.update(idle_w=idle, busy_w=joules / seconds)
    convention = (
        f"batch {batch}, {subject.convention}, model only, board energy, idle power of {idle:.0f} W included, "
        f"window of {seconds:.1f} s"
    )
    each = joules / (steps * batch)
    return {
        "energy_j_clip": Metric(value=each, unit="J", convention=convention),
        "energy_j_video": Metric(
            value=each * subject.views.count, unit="J", convention=f"{convention}, {subject.views} views"
        ),
    }


def _idle_watts(handle: Any) -> float:
    before, begin = read_joules(handle), time.perf_counter()
    time.sleep(IDLE)
    return (read_joules(handle) - before) / (time.perf_counter() - begin)


def _window(subject: Subject, clip: torch.Tensor, handle: Any) -> tuple[float, float, int]:
    timing.synchronize(subject.device)
    before, begin, steps = read_joules(handle), time.perf_counter(), 0
    while time.perf_counter() - begin < WINDOW:
        subject.forward(clip)
        timing.synchronize(subject.device)
        steps += 1
    seconds = time.perf_counter() - begin
    return read_joules(handle) - before, seconds, steps


def counter(subject: Subject) -> Any:
    """Return NVML's handle of the subject's GPU; None on a CPU, and on a GPU without the counter, which is noted."""
    if subject.device.type != "cuda":
        return None
    handle = nvml.handle(subject.device)
    if nvml.joules(handle) is None:
        subject.lacks("energy")
        return None
    return handle


def read_joules(handle: Any) -> float:
    """Return the joules of NVML's counter. Raises UnsupportedError if it stops answering."""
    found = nvml.joules(handle)
    if found is None:
        raise UnsupportedError("NVML's energy counter stopped answering during the measurement: see the driver's log")
    return found
