"""Features on disk, `$REELBENCH_CACHE/features/KEY/`: `values.bin`, memory-mapped, and `facts.json`, what they are of.

Both are written into a folder of another name, which becomes KEY once they are on disk. A KEY that is cut off, or whose
facts are others, counts as missing.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import Tensor

from ...errors import UserError

VALUES, FACTS = "values.bin", "facts.json"
UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
REMEDY = "set REELBENCH_CACHE to a folder on a larger disk, or take --probe linear or --precision bf16"


@dataclass(frozen=True)
class Features:
    """Features of every video of an index: `values`, V×views×D or V×views×L×D, memory-mapped.

    `skipped` are the rows of unreadable videos with the reasons, whose values mean nothing; `decoder` decoded the rest.
    """

    values: Tensor
    skipped: dict[int, str]
    decoder: str

    @property
    def size(self) -> str:
        """Their size on disk, with its unit."""
        return _size(self.values.numel() * self.values.element_size())


def allocate(folder: Path, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Reserve the place of values in a folder of `part_of`, and map it, having said on standard error how large it is.

    Raises UserError if the disk is too small.
    """
    size, free, path = math.prod(shape) * dtype.itemsize, shutil.disk_usage(folder).free, folder / VALUES
    each = "×".join(map(str, shape[2:]))
    print(
        f"features of {shape[0]} videos, {shape[1]} views of {each}: {_size(size)} in {folder.parent}", file=sys.stderr
    )
    if size > free:
        raise UserError(f"features take {_size(size)}, and {folder.parent} has {_size(free)} free: {REMEDY}")
    try:
        with path.open("wb") as file:  # of a full disk, writing to a mapped page would end the process by a signal
            os.posix_fallocate(file.fileno(), 0, size)
    except OSError as error:
        raise UserError(f"{folder.parent}: {error.strerror}: {REMEDY}") from None
    return _mapped(path, shape, dtype, shared=True)


def finish(folder: Path, values: Tensor, skipped: dict[int, str], facts: dict[str, Any]) -> None:
    """Write what the values of a folder are of, and see to it that all of it is on disk."""
    more = {"shape": list(values.shape), "dtype": str(values.dtype).removeprefix("torch."), "skipped": skipped}
    with (folder / VALUES).open("rb+") as file:
        os.fsync(file.fileno())
    (folder / FACTS).write_text(json.dumps({**facts, **more}, indent=1))


def read(folder: Path, facts: dict[str, Any]) -> Features | None:
    """Return the features in a folder; None if there are none or, having said so, none that are whole and these."""
    if not folder.exists():
        return None
    found = _read(folder, facts)
    if found is None:
        print(f"{folder} is damaged: its features are computed again", file=sys.stderr)
    return found


def _read(folder: Path, facts: dict[str, Any]) -> Features | None:
    try:
        found = json.loads((folder / FACTS).read_text())
        shape, dtype = tuple(found.pop("shape")), getattr(torch, found.pop("dtype"))
        skipped = {int(row): reason for row, reason in found.pop("skipped").items()}
        size = (folder / VALUES).stat().st_size
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    if found != facts or size != math.prod(shape) * dtype.itemsize:
        return None
    return Features(_mapped(folder / VALUES, shape, dtype, shared=False), skipped, facts["decoder"])


@contextlib.contextmanager
def part_of(folder: Path) -> Iterator[Path]:
    """Make a folder for the block that takes the place of `folder` at its end, unless the block fails.

    Raises UserError if it cannot be made.
    """
    part = folder.with_name(f".{folder.name}{_here()}{os.getpid()}")
    try:
        _delete_left(folder.parent)
        part.mkdir(parents=True)
    except OSError as error:
        raise UserError(f"{folder.parent}: {error.strerror}: set REELBENCH_CACHE to a folder of yours") from None
    try:
        yield part
        shutil.rmtree(folder, ignore_errors=True)
        part.replace(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _delete_left(parent: Path) -> None:
    """Delete what processes of this machine left that were killed: it may be larger than all the rest."""
    for left in parent.glob(f".*{_here()}*"):
        process = left.name.rpartition(".")[2]
        if process.isdigit() and not psutil.pid_exists(int(process)):
            shutil.rmtree(left)


def _here() -> str:
    return f"@{socket.gethostname()}."


def _mapped(path: Path, shape: tuple[int, ...], dtype: torch.dtype, *, shared: bool) -> Tensor:
    return torch.from_file(str(path), shared=shared, size=math.prod(shape), dtype=dtype).view(shape)


def _size(count: float) -> str:
    power = min(len(UNITS) - 1, int(math.log2(max(count, 1)) // 10))
    return f"{count / 1024**power:.3g} {UNITS[power]}"
