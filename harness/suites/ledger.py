"""`results.jsonl`: an append-only file with one result per line, readable after a kill -9 at any byte.

A line is complete only if it ends in a newline; readers skip a partial last line, and the next writer truncates it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

from ...errors import UserError
from ...result import Result, newest

FILE = "results.jsonl"


def read(out: Path) -> list[Result]:
    """Return the newest result of each case and machine of a results folder (see `read_all`, `newest`)."""
    return newest(read_all(out))


def read_all(out: Path) -> list[Result]:
    """Return every result of a results folder, oldest first; a case measured again appears once per run.

    [] if there is no ledger. Raises UserError if a complete line is not a result.
    """
    path = out / FILE
    return [_parse(path, number, line) for number, line in complete_lines(path)] if path.exists() else []


def append(out: Path, result: Result) -> None:
    """Append one result and fsync it. Raises UserError if writing fails, with the file's complete lines unchanged."""
    append_line(out / FILE, result.to_json())


def append_line(path: Path, text: str) -> None:
    """Append one line to a file of JSON lines, completely or not at all; a partial last line is removed first.

    `text` comes without its newline. Raises UserError if writing fails, such as on a full disk.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    line = (text + "\n").encode()
    with path.open("ab+") as file:
        _truncate_partial_line(file.fileno())
        end = os.fstat(file.fileno()).st_size
        try:
            written = os.write(file.fileno(), line)
            if written < len(line):
                raise OSError(28, "No space left on device")
            os.fsync(file.fileno())
        except OSError as error:
            os.ftruncate(file.fileno(), end)
            raise UserError(
                f"{path}: {error.strerror}: free some space and run again, finished cases are kept"
            ) from None


def complete_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield (number from 1, line with its newline) of a file; blank lines and a partial last line are left out."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if line.endswith(b"\n") and line.strip():
                yield number, line


def _parse(path: Path, number: int, line: bytes) -> Result:
    try:
        return Result.from_json(line.decode())
    except UserError as error:
        raise UserError(f"{path}, line {number}: {error}") from None
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise UserError(f"{path}, line {number}: not a result ({error}): delete that line to go on") from None


def _truncate_partial_line(descriptor: int) -> None:
    size = os.fstat(descriptor).st_size
    if size and os.pread(descriptor, 1, size - 1) != b"\n":
        os.ftruncate(descriptor, os.pread(descriptor, size, 0).rfind(b"\n") + 1)
