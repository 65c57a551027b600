"""`decode_clips_s`: what the pipeline delivers with nothing behind it, from files to normalised clips on the device."""

from __future__ import annotations

import time
from typing import Any

from .. import measure as timing
from ..result import Metric
from . import Subject

BATCH = 16


def measure(subject: Subject) -> dict[str, Metric]:
    """Drain the test stream for the time budget; one sample a batch, the first (start-up) left out."""
    rates: list[float] = []
    with subject.open_stream(batch=BATCH) as stream:
        begin = time.perf_counter()
        while time.perf_counter() - begin < subject.budget.max_seconds or len(rates) < 3:
            rates += _drain(stream, begin + 4 * subject.budget.max_seconds)
        convention = f"{stream.decoder} decoder, {subject.case.workers} workers, {subject.views} views"
    return {"decode_clips_s": timing.summary(rates, "clips/s", convention)}


def _drain(stream: Any, deadline: float) -> list[float]:
    rates: list[float] = []
    last: float | None = None
    for batch in stream.epoch():
        now = time.perf_counter()
        if last is not None:
            rates.append(len(batch.label) / (now - last))
        last = now
        if now > deadline:
            break
    return rates
