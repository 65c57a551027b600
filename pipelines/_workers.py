"""How a worker process ends: with its parent, whatever became of that one, and never by itself at a Ctrl-C."""

from __future__ import annotations

import os
import signal
import threading
from multiprocessing import connection, parent_process


def belong_to_parent() -> None:
    """In a worker process: end when the parent does, and leave Ctrl-C to it. Does nothing in a main process."""
    parent = parent_process()
    if parent is not None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def _end_with(sentinel: int) -> None:
    connection.wait([sentinel])
    os._exit(1)
