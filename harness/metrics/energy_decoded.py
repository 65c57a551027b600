"""`energy_decoded_j_video`: joules per video of decoding and model together, from NVML's energy counter.

The counter covers the GPU's board, with its decoder and idle power, but not the host, which reads the files and on a
machine without NVDEC decodes them. `energy` is the model alone.
"""

from __future__ import annotations

import time
from typing import Any

from ...result import Metric
from ..measuring import timing
from . import Subject
from .energy import counter, read_joules
from .throughput import best_batch

WINDOW = 5.0


def measure(subject: Subject) -> dict[str, Metric]:
    """Decode and classify videos under the case's views for `WINDOW` seconds, and divide the joules by their number.

    Returns {} on a CPU and on a GPU without the counter. Raises UnsupportedError if the counter stops answering.
    """
    handle = counter(subject)
    if handle is None:
        return {}
    batch = max(1, min(best_batch(subject) // subject.views.count, subject.videos))
    with subject.open_stream(batch=batch) as stream, subject.timer.phase("measured"):
        spent, videos, seconds = window(subject, stream, handle)
        decoder = stream.decoder
    convention = (
        f"{decoder} decoder, batch of {batch} videos, {subject.views} views, {subject.convention}, board energy "
        f"without the host, window of {seconds:.1f} s"
    )
    return {"energy_decoded_j_video": Metric(value=spent / videos, unit="J", convention=convention)}


def window(subject: Subject, stream: Any, handle: Any) -> tuple[float, int, float]:
    """Return the joules, videos and seconds of whole batches, after a first one that starts decoder and model."""
    before = begin = 0.0
    videos = -1  # none counted yet
    while True:
        for batch in stream.epoch():
            subject.forward(batch.clip)
            timing.synchronize(subject.device)
            if videos < 0:
                before, begin, videos = read_joules(handle), time.perf_counter(), 0
                continue
            videos += len(set(batch.video.tolist()))
            if time.perf_counter() - begin > WINDOW:
                return read_joules(handle) - before, videos, time.perf_counter() - begin
