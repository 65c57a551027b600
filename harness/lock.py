"""A lock on a run's folder: one run at a time writes there. The kernel releases it when its holder dies, however."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from ..errors import UserError

FILE = ".lock"
UNSUPPORTED = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)  # by some network file systems


def this_process() -> str:
    """Return how the lock's file names its holder: `process PID on HOST`."""
    return f"process {os.getpid()} on {socket.gethostname()}"


@contextmanager
def lock(folder: Path, *, run: str = "") -> Iterator[None]:
    """Lock a folder, which is made if needed, for the block.

    `run` names the process that this one belongs to: a lock that it holds is this process's too. Raises UserError if
    another one holds it, named as by `this_process`, or the folder cannot be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / FILE).open("a+")
    except OSError as error:
        raise UserError(f"{folder}: {error.strerror}: choose another folder with --out") from None
    with file:
        if _taken(file, folder, run):
            file.truncate(0)
            file.write(this_process())
            file.flush()
        yield


def _taken(file: IO[str], folder: Path, run: str) -> bool:
    """Take the lock and return True; False if it is the run's already, or the file system knows no locks."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        holder = file.read()
        if holder and holder == run:
            return False
        raise UserError(
            f"{folder} is in use by another run ({holder or 'just started'}): wait for it, or choose another folder "
            "with --out"
        ) from None
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise
        print(f"{folder}: its file system has no locks: start no second run in it", file=sys.stderr)
        return False
    return True
