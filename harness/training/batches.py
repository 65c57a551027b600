"""A training stream's epochs as one endless sequence of micro-batches, the wait for each of them timed."""

from __future__ import annotations

import time
from collections.abc import Iterator

from ... import pipelines


class Batches:
    """Batches of epoch after epoch, from an optimizer step on; `waited` adds up the seconds until each came.

    `seen` holds the batches since it was last cleared; the pixels of only the last one are still valid. Micro-batches
    that fill no step of an epoch are dropped.
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
