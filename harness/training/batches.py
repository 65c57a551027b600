"""A training stream's epochs as one endless iterator of micro-batches, with the data wait timed."""

from __future__ import annotations

import time
from collections.abc import Iterator

from ... import pipelines


class Batches:
    """Endless iterator of micro-batches, starting at optimizer step `step`; `waited` is the total data wait in seconds.

    `stream` must have been opened at the same step. `seen` holds the batches since the caller last cleared it; only the
    last one's pixels are still valid. An epoch's last micro-batches that do not fill an optimizer step are dropped.
    """

    def __init__(self, stream: pipelines.Stream, steps_per_epoch: int, step: int, accumulate: int) -> None:
        self.waited = 0.0
        self.seen: list[pipelines.Batch] = []
        self._batches = self._endless(stream, steps_per_epoch, step, accumulate)

    def __iter__(self) -> Iterator[pipelines.Batch]:
        return self

    def __next__(self) -> pipelines.Batch:
        begin = time.perf_counter()
        batch = next(self._batches)
        self.waited += time.perf_counter() - begin
        self.seen.append(batch)
        return batch

    @staticmethod
    def _endless(
        stream: pipelines.Stream, steps_per_epoch: int, step: int, accumulate: int
    ) -> Iterator[pipelines.Batch]:
        while True:
            wanted = (steps_per_epoch - step % steps_per_epoch) * accumulate
            for number, batch in enumerate(stream.epoch()):
                if number < wanted:
                    yield batch
            step = 0
