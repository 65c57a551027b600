"""Processes that end with the one that started them, also if that was killed and could not stop them."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable

TRACKER = "multiprocessing.resource_tracker"
SECONDS = 0.5  # between two looks at the parent


def end_with(gone: Callable[[], bool]) -> None:
    """Exit, with all descendants, once `gone()` is true."""

    def watch() -> None:
        while not gone():
            time.sleep(SECONDS)
        kill_descendants(os.getpid())
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def parent_gone() -> Callable[[], bool]:
    """Return a function that tells whether the present parent process has ended."""
    parent = os.getppid()
    return lambda: os.getppid() != parent


def process_gone(pid: int) -> Callable[[], bool]:
    """Return a function that tells whether a process has ended, even if nobody has waited for it yet."""
    import psutil

    try:
        process = psutil.Process(pid)
    except psutil.NoSuchProcess:
        return lambda: True

    def gone() -> bool:
        try:
            return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True

    return gone


def kill_descendants(pid: int) -> None:
    """Kill all descendants of a process, but not the process itself.

    multiprocessing's trackers are spared: they end by themselves, after removing the semaphores of those killed.
    """
    import psutil

    with contextlib.suppress(psutil.NoSuchProcess):
        for member in psutil.Process(pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                if not any(TRACKER in word for word in member.cmdline()):
                    member.kill()
