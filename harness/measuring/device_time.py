"""How long a device works on a step, without the host's launching: its kernels wait in the queue behind a busy one.

Between two events around a step that starts on an idle device lies the host's launching too, kernel by kernel. Here the
device is kept busy until the host has queued the whole step: then it runs without a gap. A step of more kernels than
the queue holds is captured, and its graph replayed in the same way.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .execution import Replayed
from .timing import Budget, done

FIRST, LONGEST = 2e-3, 0.25  # seconds that the device is kept busy
CYCLES = 2_000_000  # of a spin that is timed to know what a second is: about a millisecond
QUEUED, CAPTURED = "queued behind a busy kernel", "captured, queued behind a busy kernel"


class Queue:
    """The current stream of a CUDA device: it can be kept busy, marked and waited for."""

    def __init__(self, device: torch.device) -> None:
        self._stream = torch.cuda.current_stream(device)
        self._rate = [self._timed() for _ in range(2)][-1]  # the first spin loads its kernel

    def spin(self, seconds: float) -> None:
        """Queue work that takes about so long."""
        torch.cuda._sleep(int(seconds * self._rate))  # torch has no public kernel that only waits

    def _timed(self) -> float:
        """Return the cycles a second."""
        first, _, last = self.mark(), torch.cuda._sleep(CYCLES), self.mark()
        self.wait()
        return 1e3 * CYCLES / first.elapsed_time(last)

    def mark(self) -> torch.cuda.Event:
        """Queue an event; `query` tells whether the device has come to it."""
        event = torch.cuda.Event(enable_timing=True)
        event.record(self._stream)
        return event

    def wait(self) -> None:
        """Wait until the device has done all that was queued."""
        self._stream.synchronize()


def forward_times(forward: Callable[[Tensor], Tensor], clip: Tensor, budget: Budget) -> tuple[list[float], str]:
    """Return the device's seconds of each forward pass of a clip, and how they were told.

    None, and no word, where the pass waits for the device in its middle and so can be neither queued nor captured.
    """
    queue = Queue(clip.device)
    found = times(lambda: forward(clip), queue, budget)
    if found:
        return found, QUEUED
    try:
        replayed = Replayed(forward)
        replayed(clip)
    except RuntimeError:
        return [], ""
    found = times(lambda: replayed(clip), queue, budget)
    return found, CAPTURED if found else ""


def times(step: Callable[[], object], queue: Any, budget: Budget) -> list[float]:
    """Return the seconds of each call between two marks of a `Queue` that was never empty; none where it always is."""
    found: list[float] = []
    begin, busy = time.perf_counter(), FIRST
    while not done(found, time.perf_counter() - begin, budget):
        seconds = _behind(step, queue, busy)
        if seconds is not None:
            found.append(seconds)
        elif busy < LONGEST:
            busy *= 2
        else:
            return []
    return found


def _behind(step: Callable[[], object], queue: Any, busy: float) -> float | None:
    """Time one call behind a busy device; None where the device was free before the host had queued all of it."""
    queue.wait()
    queue.spin(busy)
    first = queue.mark()
    step()
    overtaken = first.query()
    last = queue.mark()
    queue.wait()
    return None if overtaken else first.elapsed_time(last) / 1e3
