"""`Stream`: a data set's epochs as batches, through a pipeline that is built when the first one is asked for."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from multiprocessing import active_children, connection
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn

from ..harness.errors import UserError
from ._packets import Times
from .source import PADDING, Cutter, Files, Order, Source

if TYPE_CHECKING:
    from torch import Tensor

    from .index import Index

DEAD = "a decoding worker process died, perhaps killed for lack of memory: choose fewer workers or a smaller batch"


@dataclass
class Batch:
    """The clips of some videos: N = videos x views, a video's views side by side, crop-major and then by clip.

    `clip` is float32 N x 3 x T x H x W, normalised, and `label` int64 N, both on the stream's device. `video` (the row
    of the index) and `view` are int64 N on the CPU.
    """

    clip: Tensor
    label: Tensor
    video: Tensor
    view: Tensor


class Stream:
    """Epochs of batches. `decoder` says which one was chosen, `batches` how many an epoch has on this rank."""

    def __init__(
        self,
        index: Index,
        order: Order,
        cutter: Cutter,
        *,
        device: str,
        workers: int,
        decoder: str,
        first_epoch: int = 0,
        first_batch: int = 0,
    ) -> None:
        self.classes, self.num_classes = index.classes, len(index.classes)
        self.batch, self.batches = order.batch, order.batches
        self.device, self.workers, self.decoder = device, workers, decoder
        self._index, self._order, self._cutter = index, order, cutter
        self._next = first_epoch, first_batch
        self._pipeline: Any = None
        self._sentinels: list[int] = []
        self._at = self._next
        self._running: Generator[Batch, None, None] | None = None

    def epoch(self) -> Iterator[Batch]:
        """Return the next epoch's batches. Closing the iterator early skips the rest of the epoch."""
        if self._running is not None:
            self._running.close()
        start, self._next = self._next, (self._next[0] + 1, 0)
        self._running = self._run(*start)
        return self._running

    def _run(self, epoch: int, first: int) -> Generator[Batch, None, None]:
        complete = False
        try:
            for number in range(first, self.batches):
                try:
                    outputs = self._ready(epoch, number).run()
                except Exception as error:
                    self._raise(error, epoch, number)
                self._at = epoch, number + 1
                yield self._batch(outputs)
            complete = True
        finally:
            if complete:
                self._rewind(epoch + 1)
            else:
                self._stop()

    def _raise(self, error: Exception, epoch: int, number: int) -> NoReturn:
        """Raise what DALI's error means to the user; its text holds the traceback of a worker process."""
        text = str(error)
        if said := re.findall(r"errors\.UserError: (.+)", text):
            raise UserError(said[-1]) from None
        if "receiving interrupted" in text or connection.wait(self._sentinels, timeout=0):
            raise UserError(DEAD) from error
        if "decoders.video" in text:
            rows = self._order.rows(epoch, number)
            files = ", ".join(str(self._index[int(row)].path) for row in rows)
            raise UserError(
                f"one of these cannot be decoded: index the data again, or leave it out: {files}"
            ) from error
        raise error

    def _rewind(self, epoch: int) -> None:
        """Be at the next epoch's beginning: training has run on into it, a test starts again."""
        self._at = epoch, 0
        if self._pipeline is not None and not self._order.training:
            try:
                self._pipeline.run()
            except StopIteration:
                self._pipeline.reset()

    def _ready(self, epoch: int, number: int) -> Any:
        """Return the pipeline, whose next batch is this one."""
        if self._pipeline is None or self._at != (epoch, number):
            self._stop()
            self._pipeline = self._build(epoch, number)
        return self._pipeline

    def _build(self, epoch: int, number: int) -> Any:
        import torch

        from . import dali

        others = set(active_children())
        pipeline = dali.build(
            self._source(epoch, number),
            decoded=self.decoder == "software",
            device_id=torch.cuda.current_device() if self.device == "cuda" else None,
            batch=self.batch,
            workers=self.workers,
            threads=self.workers,
            depth=2,
        )
        self._sentinels = [worker.sentinel for worker in set(active_children()) - others]
        dali.guard(pipeline, self._sentinels)
        return pipeline

    def _source(self, epoch: int, number: int) -> Source:
        parts = Files.of(self._index), self._order, self._cutter, epoch, number
        if self.decoder == "software":
            from .software import DecodedSource

            return DecodedSource(*parts, times=Times.of(self._index))
        # NVDEC seeks by itself; DALI's CPU decoder does not.
        return Source(*parts, times=Times.of(self._index) if self.device == "cpu" else None)

    def _batch(self, outputs: Any) -> Batch:
        import torch

        *views, labels, rows = (torch.from_dlpack(output.as_tensor()) for output in outputs)
        count = int((rows != PADDING).sum())
        clip = views[0] if len(views) == 1 else torch.stack(views, dim=1).flatten(0, 1)
        return Batch(
            clip=clip[: count * len(views)],
            label=labels[:count].repeat_interleave(len(views)).to(clip.device, non_blocking=True),
            video=rows[:count].repeat_interleave(len(views)),
            view=torch.arange(len(views)).repeat(count),
        )

    def _stop(self) -> None:
        self._pipeline = None

    def close(self) -> None:
        """End the worker processes. A closed stream may not be used again."""
        if self._running is not None:
            self._running.close()
        self._stop()

    def __enter__(self) -> Stream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
