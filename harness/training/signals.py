"""Stopping on a signal: save after the current step. Ctrl-C and a hangup, and SIGTERM and SIGUSR1 of a scheduler.

SLURM and terminals signal every process of a job; without protection, helper processes would die of it.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker

STOPS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT, signal.SIGHUP)
HELD_BACK = {signal.SIGUSR1, signal.SIGINT, signal.SIGHUP}
TWICE = 1.0  # seconds before another Ctrl-C is a second one: launchers forward the one that the terminal sent to all


@contextmanager
def block_signals() -> Iterator[None]:
    """Block SIGUSR1, SIGINT and SIGHUP in this thread for the block, and for good in the processes started inside it.

    Such a process unblocks them by creating a `StopSignal`.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, HELD_BACK)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD_BACK)


class StopSignal:
    """Handles the signals in `STOPS` by setting `requested`; a second SIGINT calls `at_once` instead.

    `interrupted` is whether one was SIGINT. SIGINT and SIGHUP stay ignored where they are, as under nohup. It replaces
    the process's handlers, so it must be created in the main thread.
    """

    def __init__(self, at_once: Callable[[], None]) -> None:
        self.requested = self.interrupted = False
        self._at_once, self._first = at_once, 0.0
        for number in STOPS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._note)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD_BACK)

    def _note(self, number: int, frame: object) -> None:
        now = time.monotonic()
        if number == signal.SIGINT and self.interrupted and now - self._first > TWICE:
            self._at_once()
        if number == signal.SIGINT and not self.interrupted:
            self.interrupted, self._first = True, now
        if number == signal.SIGHUP:
            _leave_terminal()
        self.requested = True


def shield_tracker() -> None:
    """Start multiprocessing's helper process, which ignores SIGTERM and SIGINT, so that no other signal ends it."""
    with block_signals():
        resource_tracker.ensure_running()


def _leave_terminal() -> None:
    """Redirect output to nowhere if its terminal is gone, where writing fails: that must not keep a run from saving."""
    for stream in (sys.stdout, sys.stderr):
        try:
            os.write(stream.fileno(), b"")
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
