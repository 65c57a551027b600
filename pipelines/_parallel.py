"""Runs a function over many files in processes, in order; survives the file that crashes or hangs a native library."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, TimeoutError
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from functools import partial
from multiprocessing import get_context
from types import ModuleType
from typing import TypeVar

from rich.console import Console
from rich.progress import Progress

from ._workers import belong_to_parent

Item = TypeVar("Item")
Found = TypeVar("Found")
CHUNK = 64
PATIENCE = 900.0  # seconds


def ordered(
    function: Callable[[Item], Found],
    items: Sequence[Item],
    *,
    crashed: Callable[[Item], Found],
    title: str,
    workers: int | None = None,
    progress: bool = True,
    patience: float = PATIENCE,
) -> Iterator[Found]:
    """Yield `function(item)` for each item in order, or `crashed(item)` where it took its process down.

    So does one that is not finished after `patience` seconds: its process is killed.
    `function` must be picklable. `workers` defaults to the cores; with fewer than two, everything runs
    in this process. A progress bar is shown on a terminal.
    """
    workers = len(os.sched_getaffinity(0)) if workers is None else workers
    size = min(CHUNK, max(1, len(items) // (4 * max(workers, 1))))
    chunks = [items[i : i + size] for i in range(0, len(items), size)]
    found = (
        map(partial(_each, function), chunks) if workers < 2 else _survive(function, chunks, crashed, workers, patience)
    )
    quiet = not (progress and sys.stderr.isatty())
    with Progress(disable=quiet, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=len(items))
        for chunk in found:
            yield from chunk
            bar.advance(task, len(chunk))


@contextmanager
def no_main_module() -> Iterator[None]:
    """Spawned processes import their parent's main module again: seconds of torch and DeepSpeed, needed by none."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _survive(
    function: Callable[[Item], Found],
    chunks: Sequence[Sequence[Item]],
    crashed: Callable[[Item], Found],
    workers: int,
    patience: float,
) -> Iterator[list[Found]]:
    done = 0
    while done < len(chunks):
        with _pool(workers) as pool, suppress(BrokenProcessPool, TimeoutError):
            futures = [pool.submit(_each, function, chunk) for chunk in chunks[done:]]
            for future in futures:
                yield future.result(timeout=patience)
                done += 1
        if done < len(chunks):
            # One of this chunk's items, or of those beside it: a process for each item of it, and then go on.
            yield [_alone(function, item, crashed, patience) for item in chunks[done]]
            done += 1


def _each(function: Callable[[Item], Found], items: Sequence[Item]) -> list[Found]:
    return [function(item) for item in items]


def _alone(function: Callable[[Item], Found], item: Item, crashed: Callable[[Item], Found], patience: float) -> Found:
    with _pool(1) as pool, suppress(BrokenProcessPool, TimeoutError):
        return pool.submit(function, item).result(timeout=patience)
    return crashed(item)


@contextmanager
def _pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """Start processes, which end at once however the block ends: the pool itself would finish what it was given."""
    context = get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=belong_to_parent) as pool:
        try:
            yield pool
        finally:
            for process in list((pool._processes or {}).values()):  # public only from Python 3.14 on
                process.kill()
