"""Pure device time of a step, without launch gaps: its kernels are queued behind a spinning kernel, then run at once.

CUDA events around a step that starts on an idle device also include the host's launch overhead between kernels. Here a
spin kernel keeps the device busy until the host has queued the whole step, which then runs without gaps. A step with
more kernels than the launch queue holds is captured as a CUDA graph, which is timed in the same way.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .execution import Replayed
from .timing import Budget, done

FIRST, LONGEST = 2e-3, 0.25  # first and longest duration of the spin kernel, in seconds
CYCLES = 2_000_000  # length of the spin that calibrates cycles per second: about a millisecond
QUEUED, CAPTURED = "queued behind a busy kernel", "captured, queued behind a busy kernel"


class Queue:
    """The current CUDA stream, with the operations that the measurement needs: spin, record an event, synchronize."""

    def __init__(self, device: torch.device) -> None:
        self._stream = torch.cuda.current_stream(device)
        self._rate = [self._timed() for _ in range(2)][-1]  # the first spin loads its kernel

    def spin(self, seconds: float) -> None:
        """Queue a kernel that spins for about this many seconds."""
        torch.cuda._sleep(int(seconds * self._rate))  # torch has no public kernel that only waits

    def _timed(self) -> float:
        """Return the spin kernel's cycles per second."""
        first, _, last = self.mark(), torch.cuda._sleep(CYCLES), self.mark()
        self.wait()
        return 1e3 * CYCLES / first.elapsed_time(last)

    def mark(self) -> torch.cuda.Event:
        """Record and return a timing event; its `query()` is True once the device has reached it."""
        event = torch.cuda.Event(enable_timing=True)
        event.record(self._stream)
        return event

    def wait(self) -> None:
        """Synchronize the stream."""
        self._stream.synchronize()


def forward_times(forward: Callable[[Tensor], Tensor], clip: Tensor, budget: Budget) -> tuple[list[float], str]:
    """Return the device-side seconds of each forward pass of a clip, and the method as text.

    Returns ([], "") if the pass synchronizes internally, so that it can be neither queued as a whole nor captured. The
    clip must be on a CUDA device. There is no warm-up: call `forward` on a clip of this shape before.
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
    """Return the device-side seconds of each call whose queue never ran empty.

    Returns [] once the queue ran empty even behind the longest spin (`LONGEST` seconds). `queue` is a `Queue`, or a
    fake with its methods.
    """
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
    """Time one call behind a spin of `busy` seconds; None if the spin ended before the whole call was queued."""
    queue.wait()
    queue.spin(busy)
    first = queue.mark()
    step()
    overtaken = first.query()
    last = queue.mark()
    queue.wait()
    return None if overtaken else first.elapsed_time(last) / 1e3
