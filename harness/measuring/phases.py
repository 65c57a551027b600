"""Where the seconds of a case go: starts, compiles, warm-ups, training, counting, measuring, the harness itself.

A second belongs to the innermost part that is open, and to the harness (`rest`) where none is, so that the parts add
up to the wall time whatever happens:

    with clock.part("measured"):
        for batch in clock.batches(stream):  # the wait for the first batch is the stream's start
            model(batch.clip)
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

Part = Literal["start", "compile", "warm_up", "training", "counting", "measured", "rest", "lost"]
Seconds = dict[str, float]


class Clock:
    """The seconds of each part so far, in `seconds`; what the open part has taken since it was opened comes later."""

    def __init__(self) -> None:
        self.seconds: Seconds = {"start": 0.0, "compile": 0.0, "warm_up": 0.0, "measured": 0.0, "rest": 0.0}
        self._open: list[Part] = ["rest"]
        self._since = time.perf_counter()

    @contextmanager
    def part(self, name: Part) -> Iterator[None]:
        """Count the block's seconds to a part, but for those of parts that are opened within."""
        self._turn()
        self._open.append(name)
        try:
            yield
        finally:
            self._turn()
            self._open.pop()

    def move(self, name: Part, seconds: float) -> None:
        """Count seconds that have passed in the open part to another one."""
        self.seconds[name] += seconds
        self.seconds[self._open[-1]] -= seconds

    def batches(self, stream: Any) -> Iterator[Any]:
        """Yield an epoch's batches; until the first is there, decoders and workers start."""
        batches = iter(stream.epoch())
        with self.part("start"):
            first = next(batches, None)
        if first is not None:
            yield first
            yield from batches

    def read(self) -> Seconds:
        """Return the seconds of each part until now."""
        self._turn()
        return dict(self.seconds)

    def _turn(self) -> None:
        now = time.perf_counter()
        part = self._open[-1]
        self.seconds[part] = self.seconds.get(part, 0.0) + now - self._since
        self._since = now


def close(parts: Mapping[str, float], *, start: float, wall: float) -> Seconds:
    """Return the account of a process that ran for `wall` seconds, the first `start` of them before it read its clock.

    What its parts leave of the wall time is the harness's; of a process that died without a word it is `lost`.
    """
    found = {"wall": wall, **parts, "start": parts.get("start", 0.0) + start}
    found.pop("rest", None)
    found = {name: round(seconds, 3) for name, seconds in found.items()}
    remainder = "rest" if parts else "lost"
    return {**found, remainder: round(2 * found["wall"] - sum(found.values()), 3)}
