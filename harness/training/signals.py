"""Stopping on SIGTERM and SIGUSR1, which a scheduler sends before it reclaims a machine: save after the current step.

SLURM sends the signal to every process of a job; without protection, helper processes would die of SIGUSR1.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker


@contextmanager
def block_signals() -> Iterator[None]:
    """Block SIGUSR1 in this thread for the block, and for good in the processes started inside it.

    Such a process unblocks it by creating a `StopSignal`.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR1})


class StopSignal:
    """Handles SIGTERM and SIGUSR1 by setting `requested`; the training loop then saves and exits with 0.

    It replaces the process's handlers, so it must be created in the main thread.
    """

    def __init__(self) -> None:
        self.requested = False
        for number in (signal.SIGTERM, signal.SIGUSR1):
            signal.signal(number, self._note)
        with block_signals():
            resource_tracker.ensure_running()  # multiprocessing's helper process ignores SIGTERM, but not SIGUSR1

    def _note(self, number: int, frame: object) -> None:
        self.requested = True
