"""Runs a function over many files in processes, in order, and survives the file that crashes a native library."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context
from types import ModuleType
from typing import TypeVar

from rich.console import Console
from rich.progress import Progress

Item = TypeVar("Item")
Found = TypeVar("Found")
CHUNK = 64


def ordered(
    function: Callable[[Item], Found],
    items: Sequence[Item],
    *,
    crashed: Callable[[Item], Found],
    title: str,
    workers: int | None = None,
    progress: bool = True,
) -> Iterator[Found]:
    """Yield `function(item)` for each item in order, or `crashed(item)` where it took its process down.

    `function` must be picklable. `workers` defaults to the cores; with fewer than two, or little to do, everything runs
    in this process. A progress bar is shown on a terminal.
    """
    workers = len(os.sched_getaffinity(0)) if workers is None else workers
    size = min(CHUNK, max(1, len(items) // (4 * max(workers, 1))))
    chunks = [items[i : i + size] for i in range(0, len(items), size)]
    found = map(partial(_each, function), chunks) if workers < 2 else _survive(function, chunks, crashed, workers)
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
) -> Iterator[list[Found]]:
    done = 0
    while done < len(chunks):
        try:
            with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
                for found in pool.map(partial(_each, function), chunks[done:]):
                    yield found
                    done += 1
        except BrokenProcessPool:
            # One of this chunk's items, or of those beside it: a process for each item of it, and then go on.
            yield [_alone(function, item, crashed) for item in chunks[done]]
            done += 1


def _each(function: Callable[[Item], Found], items: Sequence[Item]) -> list[Found]:
    return [function(item) for item in items]


def _alone(function: Callable[[Item], Found], item: Item, crashed: Callable[[Item], Found]) -> Found:
    try:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            return pool.submit(function, item).result()
    except BrokenProcessPool:
        return crashed(item)
