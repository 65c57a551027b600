"""How worker processes end: with their parent, even if that was killed, and not by themselves at Ctrl-C.

Workers of a training also leave a scheduler's signals (SIGUSR1, SIGTERM) and a hangup to their parent.
"""

from __future__ import annotations

import atexit
import os
import signal
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from multiprocessing import connection, parent_process
from multiprocessing.process import BaseProcess
from weakref import WeakSet

LEFT_TO_PARENT = {signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGTERM}
GRACE = 60  # seconds for which workers keep serving a parent that is stopping

_started: WeakSet[BaseProcess] = WeakSet()


def belong_to_parent() -> None:
    """In a worker process: end when the parent ends, and ignore Ctrl-C. No effect in a main process."""
    parent = parent_process()
    if parent is not None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def leave_signals_to_parent() -> None:
    """In a worker process: as `belong_to_parent`, and also ignore SIGUSR1 and SIGHUP, and SIGTERM for a minute.

    Schedulers and terminals signal every process of a job, and training needs its workers to finish the step and save.
    """
    if parent_process() is not None:
        belong_to_parent()
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, _end_later)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, LEFT_TO_PARENT)


@contextmanager
def signals_wait() -> Iterator[None]:
    """In the parent: hold back the signals of `LEFT_TO_PARENT` for the block, in which workers are started.

    The workers start with them held back too: one would end them before they can leave it to their parent.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, LEFT_TO_PARENT)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def end_at_exit(workers: Iterable[BaseProcess]) -> None:
    """In the parent: kill these workers when the interpreter exits, if they still run.

    DALI's workers are not daemons: with a stream left open, multiprocessing would wait for them forever.
    """
    for worker in workers:
        worker.terminate = worker.kill  # DALI calls it and joins: they would answer SIGTERM late
        _started.add(worker)


@atexit.register  # registered after multiprocessing's handler, so it runs before it
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
