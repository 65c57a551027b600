"""`throughput_clips_s`: clips a second at the best batch, model only. Batches double until they stop paying.

A batch that does not fit ends the search, not the case.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from .. import measure as timing
from ..result import Metric
from . import Subject

LARGEST = 256
WORTH = 1.03


def measure(subject: Subject) -> dict[str, Metric]:
    """Time the batch that the case names, or the best of 1, 2, 4, …"""
    batch = subject.case.batch or best_batch(subject)
    seconds = _seconds(subject, batch, subject.budget)
    rates = [batch / s for s in seconds]
    convention = f"batch {batch}, {subject.case.precision}, model only"
    return {"throughput_clips_s": timing.summary(rates, "clips/s", convention)}


def best_batch(subject: Subject) -> int:
    """Return the batch with the most clips a second, tried in doubling steps; `notes` keep what was tried."""
    quick = replace(subject.budget, min_seconds=0.0, max_seconds=subject.budget.max_seconds / 4, precision=0.1)
    tried: dict[int, float] = {}
    batch = 1
    while batch <= LARGEST:
        try:
            tried[batch] = batch / min(_seconds(subject, batch, quick))
        except torch.cuda.OutOfMemoryError:
            torch.cuda.empty_cache()
            break
        if batch > 2 and tried[batch] < WORTH * max(tried[b] for b in tried if b < batch):
            break
        batch *= 2
    subject.notes["throughput_by_batch"] = {str(b): rate for b, rate in tried.items()}
    best = max(tried, key=lambda b: tried[b])
    subject.notes["best_batch"] = best
    return best


def _seconds(subject: Subject, batch: int, budget: timing.Budget) -> list[float]:
    clip = subject.example(batch)
    return timing.samples(lambda: subject.forward(clip), subject.device, budget)
