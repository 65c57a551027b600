"""Where a case spends its time: startup, compilation, warm-up, training, FLOP counting, measuring, harness overhead.

Every second is attributed to the innermost open phase, or to the harness (`rest`) when none is open, so that the phases
always add up to the wall time:

    with timer.phase("measured"):
        for batch in timer.batches(stream):  # the wait for the first batch counts as `start`
            model(batch.clip)
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

Phase = Literal["start", "compile", "warm_up", "training", "counting", "measured", "rest", "lost"]
Seconds = dict[str, float]


class PhaseTimer:
    """Accumulates `seconds` per phase; the open phase's running time is added when it closes or on `read`."""

    def __init__(self) -> None:
        self.seconds: Seconds = {"start": 0.0, "compile": 0.0, "warm_up": 0.0, "measured": 0.0, "rest": 0.0}
        self._open: list[Phase] = ["rest"]
        self._since = time.perf_counter()

    @contextmanager
    def phase(self, name: Phase) -> Iterator[None]:
        """Attribute the block's time to a phase, minus the time of phases opened inside it."""
        self._flush()
        self._open.append(name)
        try:
            yield
        finally:
            self._flush()
            self._open.pop()

    def move(self, name: Phase, seconds: float) -> None:
        """Reattribute seconds from the currently open phase to another one; both must have had time before (`read`)."""
        self.seconds[name] += seconds
        self.seconds[self._open[-1]] -= seconds

    def batches(self, stream: Any) -> Iterator[Any]:
        """Yield the batches of `stream.epoch()`; the wait for the first, in which decoders start, counts as `start`."""
        batches = iter(stream.epoch())
        with self.phase("start"):
            first = next(batches, None)
        if first is not None:
            yield first
            yield from batches

    def read(self) -> Seconds:
        """Return the seconds of each phase until now."""
        self._flush()
        return dict(self.seconds)

    def _flush(self) -> None:
        now = time.perf_counter()
        phase = self._open[-1]
        self.seconds[phase] = self.seconds.get(phase, 0.0) + now - self._since
        self._since = now


def finalize(phases: Mapping[str, float], *, start: float, wall: float) -> Seconds:
    """Return the time breakdown of a process that ran for `wall` seconds and began its timer `start` seconds in.

    `phases` are those of `PhaseTimer.read`. The result has them and `wall`, in seconds rounded to milliseconds. The
    unattributed remainder is the harness's (`rest`), or `lost` for a process that died without reporting any phase.
    """
    found = {"wall": wall, **phases, "start": phases.get("start", 0.0) + start}
    found.pop("rest", None)
    found = {name: round(seconds, 3) for name, seconds in found.items()}
    remainder = "rest" if phases else "lost"
    return {**found, remainder: round(2 * found["wall"] - sum(found.values()), 3)}
