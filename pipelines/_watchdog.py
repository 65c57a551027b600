"""When a decoder fails, crashes or hangs: a call with a timeout, and the search for the videos that cause it.

A decoder's error names no file. So the batch's videos are decoded once more, one by one, in a child process that may
crash or be killed. What a GPU fails to decode is tried in software too: a video is skipped only if that fails as well.
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
from ._files import UnreadableVideo
from ._parallel import no_main_module
from .source import EncodedSource

T = TypeVar("T")
Sample = tuple[int, int]

BATCH_TIMEOUT = 300.0  # seconds for one batch, before its videos are tried one by one
FILE_TIMEOUT = 60.0  # seconds for one video
START_TIMEOUT = 300.0  # seconds for a child to import what it needs
READY, CRASHES, HANGS = "ready", "crashes the decoder", "hangs the decoder"
GPU_FAILURES = 5  # after as many failures and no success, the GPU is taken to be the cause


class DecodeTimeout(Exception):  # noqa: N818 (named for what happened)
    """A call did not return in time."""


def call_with_timeout(seconds: float, function: Callable[[], T]) -> T:
    """Return `function()`, or raise what it raises; it runs in a daemon thread.

    Raises DecodeTimeout after `seconds`: the call is then abandoned, and goes on in its thread.
    """
    answers: queue.SimpleQueue[tuple[T | None, BaseException | None]] = queue.SimpleQueue()

    def call() -> None:
        try:
            answers.put((function(), None))
        except BaseException as error:  # noqa: BLE001 (raised again where it is awaited)
            answers.put((None, error))

    threading.Thread(target=call, daemon=True).start()
    try:
        value, error = answers.get(timeout=seconds)
    except queue.Empty:
        raise DecodeTimeout(f"no answer for {seconds:.0f} s") from None
    if error is not None:
        raise error
    return value  # type: ignore[return-value]


@dataclass
class DecodeReport:
    """Videos decoded one by one. `failed` is {row: reason} of those that fail (after a GPU, in software too).

    `gpu_only` is {row: reason} of those that only the GPU fails to decode. `decoded` counts the successes at the first
    try, on the device.
    """

    failed: dict[int, str] = field(default_factory=dict)
    gpu_only: dict[int, str] = field(default_factory=dict)
    decoded: int = 0

    def __ior__(self, other: DecodeReport) -> DecodeReport:
        self.failed |= other.failed
        self.gpu_only |= other.gpu_only
        self.decoded += other.decoded
        return self

    @property
    def gpu_at_fault(self) -> bool:
        """Whether the GPU decoded none of the videos, but software did."""
        return bool(self.gpu_only) and not self.decoded


def find_failing_videos(source: EncodedSource, samples: Iterable[Sample], device_id: int | None) -> DecodeReport:
    """Decode each (epoch, row) sample by itself in a child process; report which fail, crash or hang.

    `device_id=None` means the CPU. On a GPU, samples after the first `GPU_FAILURES` are not tried if all those failed.
    Raises UserError if the child process cannot start.
    """
    on_gpu = device_id is not None and source.form != "decoded"
    tried = _outcomes(source, list(samples), device_id, max_failures=GPU_FAILURES if on_gpu else None)
    failed = {sample: reason for sample, reason in tried.items() if reason}
    found = DecodeReport(decoded=len(tried) - len(failed))
    if on_gpu and failed:
        in_software = _outcomes(_software(source), list(failed), None)
        found.gpu_only = {sample[1]: reason for sample, reason in failed.items() if not in_software[sample]}
        failed = {sample: reason for sample, reason in in_software.items() if reason}
    found.failed = {sample[1]: reason for sample, reason in failed.items()}
    return found


def _software(source: EncodedSource) -> EncodedSource:
    from .software import DecodedSource

    return DecodedSource(
        source.files, source.batch_sampler, source.clip_sampler, *source.start, undecodable=source.undecodable
    )


def _outcomes(
    source: EncodedSource, samples: list[Sample], device_id: int | None, max_failures: int | None = None
) -> dict[Sample, str]:
    """Return why each sample fails ("" if it decodes). Stops after `max_failures` failures without a success."""
    found: dict[Sample, str] = {}
    while len(found) < len(samples) and not (len(found) == max_failures and all(found.values())):
        hopeful = max_failures is None or not all(found.values())
        waiting = samples[len(found) : None if hopeful else max_failures]
        reasons = list(_examine(source, waiting, device_id))
        found |= zip(waiting, reasons if device_id is None else _conclusive(reasons), strict=False)
    return found


def _conclusive(reasons: list[str]) -> list[str]:
    """Return the leading reasons that can be trusted: on a GPU, an error may make all later decodes fail.

    A success proves that earlier failures had no such effect. So results count up to the first failure after the last
    success.
    """
    last = max((number for number, reason in enumerate(reasons) if not reason), default=-1)
    return reasons[: last + 2]


def _examine(source: EncodedSource, samples: list[Sample], device_id: int | None) -> Iterable[str]:
    """Yield why each sample fails ("" if it decodes), in a child process; ends where that crashes or hangs."""
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    child = context.Process(target=_serve, args=(theirs, source, samples, device_id), daemon=True)
    with no_main_module():
        child.start()
    theirs.close()
    try:
        if _answer(ours, START_TIMEOUT) != READY:
            raise UserError("cannot start a process to find the video that makes decoding fail: is memory short?")
        for _ in samples:
            reason = _answer(ours, FILE_TIMEOUT)
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


def _serve(theirs: connection.Connection, source: EncodedSource, samples: list[Sample], device_id: int | None) -> None:
    decode = None if source.form == "decoded" else _dali_decode()
    theirs.send(READY)
    for epoch, row in samples:
        try:
            (*content,), _ = source.content(row, source.clip_spec(epoch, row, row))
            if decode is not None and not (source.form == "mixed" and content[-1]):  # 1: decoded already, in software
                decode(content[0], content[1], device_id=device_id)
            theirs.send("")
        except UnreadableVideo as error:
            theirs.send(str(error))
        except Exception as error:  # noqa: BLE001 (DALI raises plain RuntimeErrors)
            theirs.send(f"cannot be decoded: {gist(error)}")


def _dali_decode() -> Callable[..., None]:
    from . import dali

    return dali.decode
