"""`throughput_clips_s`, `throughput_frames_s`: throughput of the model alone at its best batch size.

If the case leaves the batch open, the batch doubles, from 1 to at most 256, until throughput improves by less than 3 %;
if one runs out of memory, bisection approaches the largest that fits. `notes["batch_sweep"]` keeps the time and rate of
every batch tried.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from ...result import Metric
from ..events import Event
from ..measuring import timing
from . import Subject

LARGEST = 256
WORTH = 1.03
SPARE = 0.9  # stop at 90 % of the free RAM: beyond it the OOM killer would end the case


def measure(subject: Subject) -> dict[str, Metric]:
    """Time the case's batch, or the best of 1, 2, 4, …; at batch 1 the samples are those of `latency_ms`."""
    batch = best_batch(subject)
    taken = subject.time_one_clip() if batch == 1 else _time(subject, batch, subject.budget)
    rates = [batch / s for s in taken.host]
    convention = f"batch {batch}, {subject.convention}, model only"
    frames = [rate * subject.clip.frames for rate in rates]
    return {
        "throughput_clips_s": timing.summary(rates, "clips/s", convention),
        "throughput_frames_s": timing.summary(frames, "frames/s", convention),
    }


def best_batch(subject: Subject) -> int:
    """Return the case's batch, or the one with the highest throughput, searched for once per subject.

    Raises OutOfMemoryError if not even one clip fits.
    """
    if "best_batch" not in subject.notes:
        subject.notes["best_batch"] = subject.case.batch or _sweep(subject)
    return subject.notes["best_batch"]


def _sweep(subject: Subject) -> int:
    quick = replace(subject.budget, min_seconds=0.0, max_seconds=subject.budget.max_seconds / 4, precision=0.1, least=3)
    tried: dict[int, timing.Timing] = {}

    def fits(batch: int) -> bool:
        if not _room(tried, batch):
            return False
        subject.report(Event(phase=f"throughput, batch {batch}"))
        taken = attempt(lambda: _time(subject, batch, quick))
        if taken is not None:
            tried[batch] = taken
        return taken is not None

    batch = 1
    while batch <= LARGEST and fits(batch):
        if batch > 2 and _rate(tried, batch) < WORTH * max(_rate(tried, b) for b in tried if b < batch):
            break
        batch *= 2
    else:
        if tried and batch <= LARGEST:
            subject.notes["largest_batch"] = bisect(max(tried), batch, fits)
    if not tried:
        raise torch.cuda.OutOfMemoryError("not even one clip fits into memory")
    subject.notes["batch_sweep"] = [_row(batch, tried[batch]) for batch in sorted(tried)]
    return max(tried, key=lambda b: _rate(tried, b))


def bisect(fitting: int, failing: int, fits: Callable[[int], bool]) -> int:
    """Bisect between a batch that fits and one that does not; return one that fits, within an eighth of the largest."""
    while failing - fitting > max(1, fitting // 8):
        middle = (fitting + failing) // 2
        if fits(middle):
            fitting = middle
        else:
            failing = middle
    return fitting


def attempt(step: Callable[[], timing.Timing]) -> timing.Timing | None:
    """Return the step's timing; None if it ran out of memory or exceeded a kernel's 32-bit indices."""
    try:
        return step()
    except torch.cuda.OutOfMemoryError:
        pass
    except RuntimeError as error:
        known = ("out of memory", "can't allocate memory", "32-bit", "32 bit", "INT_MAX", "CUDNN_STATUS_NOT_SUPPORTED")
        if not any(text.lower() in str(error).lower() for text in known):
            raise
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return None


def _room(tried: dict[int, timing.Timing], batch: int) -> bool:
    """Whether the host's memory can hold a larger batch: the OOM killer raises no exception that could be caught."""
    import psutil

    status = Path("/proc/self/status")
    if not tried or not status.exists():
        return True
    peak = next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM")) * 1024
    growth = peak / max(tried) * (batch - max(tried))  # an upper bound: the libraries' share does not grow
    return growth < SPARE * psutil.virtual_memory().available


def _rate(tried: dict[int, timing.Timing], batch: int) -> float:
    return batch / min(tried[batch].host)


def _row(batch: int, taken: timing.Timing) -> dict[str, float | None]:
    found = timing.summary([s * 1e3 for s in taken.host], "ms")
    return {
        "batch": batch,
        "ms": found.value,
        "low": found.low,
        "high": found.high,
        "clips_s": batch * 1e3 / found.value,
    }


def _time(subject: Subject, batch: int, budget: timing.Budget) -> timing.Timing:
    clip = subject.example(batch)
    return subject.time(lambda: subject.forward(clip), budget)
