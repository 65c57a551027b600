"""How a worker process ends: with its parent, whatever became of that one, and never by itself at a Ctrl-C."""

from __future__ import annotations

import atexit
import os
import signal
import threading
from collections.abc import Iterable
from multiprocessing import connection, parent_process
from multiprocessing.process import BaseProcess
from weakref import WeakSet

_started: WeakSet[BaseProcess] = WeakSet()


def belong_to_parent() -> None:
    """In a worker process: end when the parent does, and leave Ctrl-C to it. Does nothing in a main process."""
    parent = parent_process()
    if parent is not None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def end_at_exit(workers: Iterable[BaseProcess]) -> None:
    """In the parent: kill these workers when the interpreter ends, if they are still there.

    DALI's are no daemons: multiprocessing would wait for them, and they for tasks, where a stream was left open.
    """
    _started.update(workers)


@atexit.register  # after multiprocessing's own, which thus runs later
def _kill_the_rest() -> None:
    for worker in list(_started):
        worker.kill()


def _end_with(sentinel: int) -> None:
    connection.wait([sentinel])
    os._exit(1)
