"""How a worker process ends: with its parent, whatever became of that one, and never by itself at a Ctrl-C.

One that decodes for a training leaves a scheduler's signals to its parent too.
"""

from __future__ import annotations

import atexit
import os
import signal
import threading
from collections.abc import Iterable
from multiprocessing import connection, parent_process
from multiprocessing.process import BaseProcess
from weakref import WeakSet

GRACE = 60  # seconds in which a parent that was asked to stop may still want samples

_started: WeakSet[BaseProcess] = WeakSet()


def belong_to_parent() -> None:
    """In a worker process: end when the parent does, and leave Ctrl-C to it. Does nothing in a main process."""
    parent = parent_process()
    if parent is not None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def leave_signals_to_parent() -> None:
    """In a worker process: belong to the parent, and go on at SIGUSR1 and, for a minute, at SIGTERM.

    Schedulers send them to every process of a job, and a training wants to end its step and save.
    """
    if parent_process() is not None:
        belong_to_parent()
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, _end_later)


def end_at_exit(workers: Iterable[BaseProcess]) -> None:
    """In the parent: kill these workers when the interpreter ends, if they are still there.

    DALI's are no daemons: multiprocessing would wait for them, and they for tasks, where a stream was left open.
    """
    for worker in workers:
        worker.terminate = worker.kill  # what DALI calls, and waits for: a SIGTERM would be answered late
        _started.add(worker)


@atexit.register  # after multiprocessing's own, which thus runs later
def _kill_the_rest() -> None:
    for worker in list(_started):
        worker.kill()


def _end_later(number: int, frame: object) -> None:
    timer = threading.Timer(GRACE, os._exit, (1,))
    timer.daemon = True
    timer.start()


def _end_with(sentinel: int) -> None:
    connection.wait([sentinel])
    os._exit(1)
