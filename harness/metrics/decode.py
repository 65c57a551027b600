"""`decode_clips_s`: throughput of the input pipeline alone, from files to normalized clips on the device."""

from __future__ import annotations

import time
from typing import Any

from ...result import Metric
from ..measuring import timing
from . import Subject

LARGEST = 16
BATCHES = 8


def measure(subject: Subject) -> dict[str, Metric]:
    """Drain the test stream within the time budget, one timing per batch, without each epoch's first (startup).

    Every view counts as a clip. Returns {} if fewer than three batches could be timed.
    """
    rates: list[float] = []
    batch = max(1, min(LARGEST, subject.videos // BATCHES))
    with subject.open_stream(batch=batch) as stream, subject.timer.phase("measured"):
        deadline = time.perf_counter() + subject.budget.max_seconds
        while taken := _drain(subject, stream, deadline):
            rates += taken
            if time.perf_counter() > deadline:
                break
        convention = f"{stream.decoder} decoder, {subject.case.workers} workers, {subject.views} views"
    return {"decode_clips_s": timing.summary(rates, "clips/s", convention)} if len(rates) >= 3 else {}


def _drain(subject: Subject, stream: Any, deadline: float) -> list[float]:
    rates: list[float] = []
    last: float | None = None
    for batch in subject.batches("decode", stream):
        now = time.perf_counter()
        if last is not None:
            rates.append(len(batch.label) / (now - last))
        last = now
        if now > deadline and len(rates) >= 3:
            break
    return rates
