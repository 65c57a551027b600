"""Files that are on disk, whole, once they have their name; and one line for the user where a disk fails."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from ...errors import UserError

PART = ".part"
NO_SPACE = "No space left on device"
LITTLE = 1 << 20  # bytes free on a disk that is full


def write(path: Path, content: Callable[[Path], object]) -> None:
    """Write a file under another name by `content`, sync it, and rename it: it is there whole, or as it was before.

    Raises OSError, or what `content` raises.
    """
    written = path.with_suffix(PART)
    try:
        content(written)
        with written.open("rb") as file:
            os.fsync(file.fileno())
        written.replace(path)
        sync_folder(path.parent)
    except BaseException:
        with contextlib.suppress(OSError):
            written.unlink(missing_ok=True)
        raise


def sync_folder(folder: Path) -> None:
    """Sync a folder's entries to disk, where its file system can."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Writer:
    """Saves values by `torch.save`, synced to disk. An error does not stop it: `take_error` returns the first one."""

    def __init__(self) -> None:
        self._error = ""

    def save(self, state_dict: Any, path: str) -> None:
        """Save a value. The parameters' names are those of DeepSpeed's checkpoint engine."""
        try:
            with open(path, "wb") as file:
                torch.save(state_dict, file)
                file.flush()
                os.fsync(file.fileno())
        except (OSError, RuntimeError) as error:
            self._error = self._error or reason(error, Path(path).parent)
            with contextlib.suppress(OSError):
                os.truncate(path, 0)  # what it took is needed to go on

    def take_error(self) -> str:
        """Return why saving failed since the last call, "" if it did not."""
        error, self._error = self._error, ""
        return error


def attempt(action: Callable[[str], object], folder: str) -> None:
    """Call `action`, which writes to the folder, and go on if it cannot."""
    with contextlib.suppress(OSError):
        action(folder)


@contextmanager
def one_line(folder: Path) -> Iterator[None]:
    """Raise UserError for a failed write to the folder within the block."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if isinstance(error, OSError) or type(error).__name__ == "SafetensorError":
            raise failed(folder, reason(error, folder)) from None
        raise


def failed(folder: Path, why: str) -> UserError:
    """Return (not raise) the UserError for a folder that could not be written to."""
    return UserError(f"{folder}: {why}: what was saved before is whole: make room there, then go on with --resume")


def reason(error: Exception, folder: Path) -> str:
    """Return why a write failed; torch and safetensors hide a full disk behind messages of their own."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    with contextlib.suppress(OSError):
        if NO_SPACE in str(error) or shutil.disk_usage(folder).free < LITTLE:
            return NO_SPACE
    return str(error).partition("\n")[0]
