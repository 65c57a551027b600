"""When a decoder fails, dies or hangs: a wait that ends, and the search for the file at fault.

A decoder's error names no file, and one that hangs or crashes says nothing at all. So the files in question are decoded
once more, one after the other, in a child process that may die or be killed in its turn.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable
from multiprocessing import connection, get_context
from typing import TypeVar

from ..errors import UserError
from ._files import Broken
from ._parallel import no_main_module
from .source import Source

Found = TypeVar("Found")
Place = tuple[int, int]

BATCH_PATIENCE = 300.0  # seconds for one batch before a file is suspected of hanging a decoder
FILE_PATIENCE = 60.0  # seconds for one file, alone
START_PATIENCE = 300.0  # seconds for a child to import what it needs
READY, CRASHES, HANGS = "ready", "crashes the decoder", "hangs the decoder"


class Hung(Exception):  # noqa: N818 (an observation)
    """A call did not come back in time."""


def within(seconds: float, function: Callable[[], Found]) -> Found:
    """Return `function()`, or raise `Hung` and leave it behind in a thread that ends with the process."""
    answers: queue.SimpleQueue[tuple[Found | None, BaseException | None]] = queue.SimpleQueue()

    def call() -> None:
        try:
            answers.put((function(), None))
        except BaseException as error:  # noqa: BLE001 (raised again where it is awaited)
            answers.put((None, error))

    threading.Thread(target=call, daemon=True).start()
    try:
        value, error = answers.get(timeout=seconds)
    except queue.Empty:
        raise Hung(f"no answer for {seconds:.0f} s") from None
    if error is not None:
        raise error
    return value  # type: ignore[return-value]


def culprits(source: Source, places: Iterable[Place], device_id: int | None) -> dict[int, str]:
    """Decode the (epoch, row) samples in child processes; return {row: reason} of those that fail, crash or hang."""
    waiting, found = list(places), {}
    while waiting:
        done = 0
        for reason in _examine(source, waiting, device_id):
            if reason:
                found[waiting[done][1]] = reason
            done += 1
        waiting = waiting[done:]
    return found


def _examine(source: Source, places: list[Place], device_id: int | None) -> Iterable[str]:
    """Yield each sample's reason ("" if it decodes) until one takes the child down, whose reason is the last."""
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    child = context.Process(target=_serve, args=(theirs, source, places, device_id), daemon=True)
    with no_main_module():
        child.start()
    theirs.close()
    try:
        if _answer(ours, START_PATIENCE) != READY:
            raise UserError("no process can be started to look for a broken file: is memory short?")
        for _ in places:
            reason = _answer(ours, FILE_PATIENCE)
            yield reason
            if reason in (CRASHES, HANGS):
                return
    finally:
        child.kill()
        child.join()


def _answer(ours: connection.Connection, seconds: float) -> str:
    if not ours.poll(seconds):
        return HANGS
    try:
        return ours.recv()
    except EOFError:
        return CRASHES


def _serve(theirs: connection.Connection, source: Source, places: list[Place], device_id: int | None) -> None:
    decode = None if source.form == "decoded" else _dali_decode()
    theirs.send(READY)
    for epoch, row in places:
        try:
            (*content,), _ = source.content(row, source.cut(epoch, row, row))
            if decode is not None and not (source.form == "mixed" and content[-1]):  # 1: pictures, decoded already
                decode(content[0], content[1], device_id=device_id)
            theirs.send("")
        except Broken as error:
            theirs.send(str(error))
        except Exception as error:  # noqa: BLE001 (DALI raises plain RuntimeErrors)
            theirs.send(f"cannot be decoded: {' '.join(str(error).split())[:200]}")


def _dali_decode() -> Callable[..., None]:
    from . import dali

    return dali.decode
