"""A parallel map over files in processes, in order, that survives files which crash or hang a native library."""

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

from ._workers import belong_to_parent
from .progress import counting

Item = TypeVar("Item")
Output = TypeVar("Output")
CHUNK = 64
TIMEOUT = 900.0  # seconds


def ordered(
    function: Callable[[Item], Output],
    items: Sequence[Item],
    *,
    crashed: Callable[[Item], Output],
    title: str,
    workers: int | None = None,
    progress: bool = True,
    timeout: float = TIMEOUT,
) -> Iterator[Output]:
    """Yield `function(item)` for each item in order, or `crashed(item)` if it crashes or takes too long.

    Items run in chunks. If a process crashes or the next chunk takes over `timeout` seconds, all processes are
    killed; the items of that chunk run again, each in a process of its own for up to `timeout` seconds, then the
    later chunks start again. So `function`, which must be picklable, may see an item several times; an exception that
    it raises is raised here. `workers` defaults to the number of cores; with fewer than two, everything runs in this
    process, without protection. `progress` shows how far it is, under its `title`.
    """
    workers = len(os.sched_getaffinity(0)) if workers is None else workers
    size = min(CHUNK, max(1, len(items) // (4 * max(workers, 1))))
    chunks = [items[i : i + size] for i in range(0, len(items), size)]
    found = (
        map(partial(_each, function), chunks) if workers < 2 else _survive(function, chunks, crashed, workers, timeout)
    )
    with counting(title, len(items), visible=progress) as tell:
        done = 0
        for chunk in found:
            yield from chunk
            done += len(chunk)
            tell(done)


@contextmanager
def no_main_module() -> Iterator[None]:
    """Keep spawned processes from importing the parent's main module: seconds of torch and DeepSpeed, needed by none.

    `spawn` re-imports whatever `__main__` is, and has no option against it.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _survive(
    function: Callable[[Item], Output],
    chunks: Sequence[Sequence[Item]],
    crashed: Callable[[Item], Output],
    workers: int,
    timeout: float,
) -> Iterator[list[Output]]:
    done = 0
    while done < len(chunks):
        with _pool(workers) as pool, suppress(BrokenProcessPool, TimeoutError):
            with no_main_module():  # so that a script needs no `if __name__ == "__main__"`
                futures = [pool.submit(_each, function, chunk) for chunk in chunks[done:]]
            for future in futures:
                yield future.result(timeout=timeout)
                done += 1
        if done < len(chunks):
            # The cause is in this chunk or one that ran beside it: run this chunk with a process per item, then go on.
            yield [_alone(function, item, crashed, timeout) for item in chunks[done]]
            done += 1


def _each(function: Callable[[Item], Output], items: Sequence[Item]) -> list[Output]:
    return [function(item) for item in items]


def _alone(function: Callable[[Item], Output], item: Item, crashed: Callable[[Item], Output], timeout: float) -> Output:
    with _pool(1) as pool, suppress(BrokenProcessPool, TimeoutError):
        with no_main_module():
            future = pool.submit(function, item)
        return future.result(timeout=timeout)
    return crashed(item)


@contextmanager
def _pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """A pool whose processes are killed at the end of the block: by itself it would finish all submitted work."""
    context = get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=belong_to_parent) as pool:
        try:
            yield pool
        finally:
            for process in list((pool._processes or {}).values()):  # public only from Python 3.14 on
                process.kill()
