"""When a decoder fails, dies or hangs: a wait that ends, and the search for the file at fault.

A decoder's error names no file, and one that hangs or crashes says nothing at all. So the files in question are decoded
once more, one after the other, in a child process that may die or be killed in its turn. What a GPU fails to decode is
tried in software too: a file is at fault only if it fails there as well.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from multiprocessing import connection, get_context
from typing import TypeVar

from ..errors import UserError
from ._device_errors import gist
from ._files import Broken
from ._parallel import no_main_module
from .source import Source

Found = TypeVar("Found")
Place = tuple[int, int]

BATCH_PATIENCE = 300.0  # seconds for one batch before a file is suspected of hanging a decoder
FILE_PATIENCE = 60.0  # seconds for one file, alone
START_PATIENCE = 300.0  # seconds for a child to import what it needs
READY, CRASHES, HANGS = "ready", "crashes the decoder", "hangs the decoder"
REFUSALS = 5  # files that a GPU fails to decode before any that it decodes: enough to blame the GPU


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


@dataclass
class Findings:
    """What files did by themselves: {row: reason} of the broken and of those that only the GPU fails to decode."""

    broken: dict[int, str] = field(default_factory=dict)
    refused: dict[int, str] = field(default_factory=dict)
    decoded: int = 0

    def __ior__(self, other: Findings) -> Findings:
        self.broken |= other.broken
        self.refused |= other.refused
        self.decoded += other.decoded
        return self

    @property
    def device_at_fault(self) -> bool:
        """Whether the GPU decoded nothing that it was given, but software did."""
        return bool(self.refused) and not self.decoded


def culprits(source: Source, places: Iterable[Place], device_id: int | None) -> Findings:
    """Decode the (epoch, row) samples in child processes; return which fail, crash or hang there."""
    on_gpu = device_id is not None and source.form != "decoded"
    tried = _outcomes(source, list(places), device_id, patience=REFUSALS if on_gpu else None)
    failed = {place: reason for place, reason in tried.items() if reason}
    found = Findings(decoded=len(tried) - len(failed))
    if on_gpu and failed:
        in_software = _outcomes(_software(source), list(failed), None)
        found.refused = {place[1]: reason for place, reason in failed.items() if not in_software[place]}
        failed = {place: reason for place, reason in in_software.items() if reason}
    found.broken = {place[1]: reason for place, reason in failed.items()}
    return found


def _software(source: Source) -> Source:
    from .software import DecodedSource

    return DecodedSource(source.files, source.order, source.cutter, *source.start, barred=source.barred)


def _outcomes(
    source: Source, places: list[Place], device_id: int | None, patience: int | None = None
) -> dict[Place, str]:
    """Return each sample's reason ("" if it decodes); `patience` failures without a success end the search."""
    found: dict[Place, str] = {}
    while len(found) < len(places) and not (len(found) == patience and all(found.values())):
        hopeful = patience is None or not all(found.values())
        waiting = places[len(found) : None if hopeful else patience]
        reasons = list(_examine(source, waiting, device_id))
        found |= zip(waiting, reasons if device_id is None else _certain(reasons), strict=False)
    return found


def _certain(reasons: list[str]) -> list[str]:
    """Return what is certain of a child's findings on a GPU: an error there may spoil all that follows it.

    A success proves that those before it spoilt nothing, so that in doubt are those after the first failure since.
    """
    last = max((number for number, reason in enumerate(reasons) if not reason), default=-1)
    return reasons[: last + 2]


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
            theirs.send(f"cannot be decoded: {gist(error)}")


def _dali_decode() -> Callable[..., None]:
    from . import dali

    return dali.decode
