"""How a scheduler takes a machine back: by a signal, which training notes and heeds between two steps.

SLURM sends it to every process of a job. Those that know nothing of it would die of SIGUSR1, and training with them.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker


@contextmanager
def held_back() -> Iterator[None]:
    """Keep SIGUSR1 from the processes that are started in the block, until one of them makes an `Interruption`."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR1})


class Interruption:
    """Notes SIGTERM and SIGUSR1, by which a scheduler takes a machine back; training then saves and ends."""

    def __init__(self) -> None:
        self.asked = False
        for number in (signal.SIGTERM, signal.SIGUSR1):
            signal.signal(number, self._note)
        with held_back():
            resource_tracker.ensure_running()  # multiprocessing's, which shields itself from SIGTERM alone

    def _note(self, number: int, frame: object) -> None:
        self.asked = True
