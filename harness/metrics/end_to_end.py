"""`end_to_end_clips_s`: throughput from encoded files to logits, and its bottleneck.

Every view counts as a clip. Decoder and model are also timed alone, at the same batch and views. `notes["limit"]` names
the bottleneck in one sentence: the decoder (on a GPU including the transfer), the model (with its kernel-launch
overhead), or the host, if both together are slower than either alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import Any

from ...result import Metric
from ..measuring import timing
from . import Subject
from .latency import launch_bound

LARGEST = 16
BATCHES = 8
LAUNCHING = 0.1  # fraction of a model's time, below which launch overhead is not mentioned
TOGETHER = 0.85  # fraction of the slower part's rate that both reach together if they do not compete for the host


def measure(subject: Subject) -> dict[str, Metric]:
    """Time stream and model together, then each alone; returns {} if fewer than three batches could be timed."""
    batch = max(1, min(LARGEST, subject.videos // BATCHES))
    with subject.open_stream(batch=batch) as stream, subject.timer.phase("measured"):
        both = _rates("end_to_end", stream, subject, lambda b: subject.forward(b.clip))
        alone = _rates("end_to_end, decoder alone", stream, subject, lambda b: None)
        example = next(subject.timer.batches(stream)).clip.clone()  # the stream's buffers are freed with it
        decoder = stream.decoder
    if len(both) < 3 or len(alone) < 3:
        return {}
    clips = len(example)
    seconds = median(subject.time(lambda: subject.forward(example)).host)
    rates = {"decoder": median(alone) * subject.views.count, "model": clips / seconds}
    device = subject.on_device(example)[0] if subject.device.type == "cuda" else []
    together = [rate * subject.views.count for rate in both]
    subject.notes["alone_clips_s"] = rates
    subject.notes["limit"] = limit(median(together), rates, launch_bound(seconds, median(device)) if device else 0.0)
    convention = f"{decoder} decoder, {subject.case.workers} workers, {subject.views} views, batch of {batch} videos"
    return {"end_to_end_clips_s": timing.summary(together, "clips/s", f"{convention}, {subject.convention}")}


def limit(together: float, alone: dict[str, float], launching: float = 0.0) -> str:
    """Return a sentence that names the bottleneck of `together` clips/s, given the clips/s of each part `alone`.

    `launching` is the fraction (0..1) of the model's time in which the device waits for the host's launches. A part
    that was slower alone than together means a disturbed measurement: then the sentence says that no bottleneck can be
    named.
    """
    slowest = min(alone, key=lambda name: alone[name])
    others = ", ".join(f"{name} alone {rate:.4g}" for name, rate in sorted(alone.items(), key=lambda item: item[1]))
    if TOGETHER * together > alone[slowest]:
        return f"No bottleneck can be named: {together:.4g} clips/s together, more than {others}; measure again."
    if together < TOGETHER * alone[slowest]:
        return f"The host limits: {together:.4g} clips/s together, but {others}."
    note = f", {launching:.0%} of its time is launch-bound" if slowest == "model" and launching > LAUNCHING else ""
    return f"The {slowest} limits: {together:.4g} clips/s together, {others}{note}."


def _rates(phase: str, stream: Any, subject: Subject, use: Callable[[Any], object]) -> list[float]:
    """Return the videos/s of each batch except every epoch's first, which includes startup."""
    rates: list[float] = []
    deadline = time.perf_counter() + subject.budget.max_seconds
    while time.perf_counter() < deadline:
        taken = _epoch(phase, stream, subject, use, deadline)
        rates += taken
        if not taken:
            break
    return rates


def _epoch(phase: str, stream: Any, subject: Subject, use: Callable[[Any], object], deadline: float) -> list[float]:
    rates: list[float] = []
    last: float | None = None
    for batch in subject.batches(phase, stream):
        use(batch)
        timing.synchronize(subject.device)
        now = time.perf_counter()
        if last is not None:
            rates.append(len(set(batch.video.tolist())) / (now - last))
        last = now
        if now > deadline and len(rates) >= 3:
            break
    return rates
