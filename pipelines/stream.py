"""`Stream`: a data set's epochs as batches, through a pipeline that is built when the first one is asked for.

A file that breaks on the way is passed over and listed in `Stream.broken`: read errors are found by the workers, what
brings a decoder down by a search, after which the pipeline is built anew at the same batch. A file that only the GPU
fails to decode is decoded in software from then on; an error of the GPU itself is raised as that.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from multiprocessing import active_children, connection
from multiprocessing.process import BaseProcess
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from ..errors import UserError
from . import _device_errors, _handover, _watchdog, nvdec
from ._colors import WEIGHTS
from ._files import Files
from ._workers import end_at_exit
from .source import PADDING, Cutter, Order, Source

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from .index import Index

DEAD = "a decoding worker process died, perhaps killed for lack of memory: choose fewer workers or a smaller batch"
SLOW = "no batch came for {:.0f} s, though its files decode one by one: check the disk, or choose a smaller batch"
DEPTH = 2  # batches that the workers prepare in advance, and as many again that DALI does
NOTHING = 2  # the length of an empty JSON list


class Broken(NamedTuple):
    """A video that was passed over, and why."""

    path: str
    reason: str


@dataclass
class Batch:
    """The clips of some videos: N = videos x views, a video's views side by side, crop-major and then by clip.

    `clip` is float32 N x 3 x T x H x W, normalised. `label` is int64 N, or float32 N x classes of 0 and 1 in a
    multi-label set; a flip has exchanged the classes that it exchanges. Both are on the stream's device. `video` (the
    row of the index) and `view` are int64 N on the CPU.
    """

    clip: Tensor
    label: Tensor
    video: Tensor
    view: Tensor


class Stream:
    """Epochs of batches. `decoder` says which one was chosen, `batches` how many an epoch has on this rank.

    Among the files of `decoder="dali"`, the rows that it does not know (not `known`) are decoded in software.
    DALI decodes with `threads`, of which NVDEC needs two an engine; they may be set until the first epoch begins.
    `metric` is how the data set is scored, `listed` how many videos its official list names, here or missing.
    """

    def __init__(
        self,
        index: Index,
        order: Order,
        cutter: Cutter,
        *,
        device: str,
        workers: int,
        decoder: str,
        known: np.ndarray,
        first_epoch: int = 0,
        first_batch: int = 0,
    ) -> None:
        self.classes, self.num_classes = index.classes, len(index.classes)
        self.metric, self.listed = index.metric, index.listed
        self.batch, self.batches = order.batch, order.batches
        self.device, self.workers, self.decoder = device, workers, decoder
        on_nvdec = device == "cuda" and decoder == "dali"
        self.threads = max(workers, 2 * nvdec.engines()) if on_nvdec else workers
        self._index, self._order, self._cutter, self._known = index, order, cutter, known.copy()
        self._corrects = bool((index.table["color_matrix"].isin(WEIGHTS).to_numpy(bool) & known).any())
        self._files: Files | None = None
        self._broken: dict[int, str] = {}
        self._barred: dict[int, str] = {}
        self._proof: list[tuple[int, int]] = []  # a sample that the device has decoded
        self._next = first_epoch, first_batch
        self._pipeline: Any = None
        self._processes: list[BaseProcess] = []
        self._at = self._next
        self._running: Generator[Batch, None, None] | None = None

    @property
    def broken(self) -> tuple[Broken, ...]:
        """The videos that were passed over so far, of all workers, in the order of the index.

        In training another video stood in for each; in testing it was left out.
        """
        paths = self._index.table["path"]
        return tuple(
            Broken(str(self._index.root / paths.iat[row]), reason) for row, reason in sorted(self._broken.items())
        )

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
                batch = self._batch(self._outputs(epoch, number))
                self._at = epoch, number + 1
                self._proof = [(epoch, row) for row in batch.video.tolist() if self._known[row]][:1] or self._proof
                if len(batch.video):  # a test's batch may hold nothing but broken videos
                    yield batch
            complete = True
        finally:
            if complete:
                self._rewind(epoch + 1)
            else:
                self._stop()

    def _outputs(self, epoch: int, number: int) -> Any:
        """Return the pipeline's outputs for a batch, whatever files break down on the way."""
        while True:
            pipeline = self._ready(epoch, number)
            try:
                return _watchdog.within(_watchdog.BATCH_PATIENCE, pipeline.run)
            except Exception as error:
                dead = bool(connection.wait([worker.sentinel for worker in self._processes], timeout=0))
                self._kill()
                found = self._culprits(error, epoch, number)
                if not found.broken and (found.device_at_fault or not found.refused):
                    self._give_up(next(iter(found.refused.values()), error), dead)
                self._barred.update(found.broken)
                self._broken.update(found.broken)
                if found.decoded:
                    self._leave_to_software(found.refused)

    def _leave_to_software(self, refused: dict[int, str]) -> None:
        for row, reason in refused.items():
            self._known[row] = False
            path = self._index.root / self._index.table["path"].iat[row]
            print(f"decoded in software from now on: {path}: on the GPU it {reason}", file=sys.stderr)

    def _culprits(self, error: Exception, epoch: int, number: int) -> _watchdog.Findings:
        """Return the files of the batch, or of those that were being prepared, that bring a decoder down."""
        if said := re.findall(r"errors\.UserError: (.+)", str(error)):
            raise UserError(said[-1]) from None
        source, found = self._source(epoch, number), _watchdog.Findings()
        for ahead in range(2 * DEPTH + 1):
            try:
                place = source.place(ahead)
            except StopIteration:
                break
            samples = [(place[0], int(row)) for row in self._order.rows(*place) if int(row) not in self._barred]
            proof = self._proof if self.device == "cuda" and not found.decoded else []
            found |= _watchdog.culprits(source, dict.fromkeys([*proof, *samples]), self._device_id())
            if found.broken or len(found.refused) >= _watchdog.REFUSALS or (found.refused and found.decoded):
                break
        return found

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
            try:
                self._pipeline = self._build(epoch, number)
            except RuntimeError as error:
                self._give_up(error, dead=False)
            self._at = epoch, number
        return self._pipeline

    def _build(self, epoch: int, number: int) -> Any:
        from . import dali

        others = set(active_children())
        pipeline = dali.build(
            self._source(epoch, number),
            device_id=self._device_id(),
            batch=self.batch,
            workers=self.workers,
            threads=self.threads,
            depth=DEPTH,
        )
        self._processes = list(set(active_children()) - others)
        end_at_exit(self._processes)
        dali.guard(pipeline, [worker.sentinel for worker in self._processes])
        return pipeline

    def _device_id(self) -> int | None:
        import torch

        return torch.cuda.current_device() if self.device == "cuda" else None

    def _source(self, epoch: int, number: int) -> Source:
        if self._files is None:
            self._files = Files(self._index)
        parts = self._files, self._order, self._cutter, epoch, number
        if self.decoder == "software":
            from .software import DecodedSource

            return DecodedSource(*parts, barred=self._barred)
        # NVDEC seeks by itself; DALI's CPU decoder does not.
        options: Any = {"excerpts": self.device == "cpu", "corrects": self._corrects, "barred": self._barred}
        if self._known.all():
            return Source(*parts, **options)
        from .software import MixedSource

        return MixedSource(*parts, **options, known=self._known)

    def _batch(self, outputs: Any) -> Batch:
        import numpy as np
        import torch

        *views, flips, rows, broken = outputs
        for text in broken:
            if text.shape()[0] > NOTHING:
                self._broken.update(dict(json.loads(np.asarray(text).tobytes())))
        clip, flips, rows = _handover.joined(views, on_gpu=self.device == "cuda"), _copied(flips), _copied(rows)
        kept = rows != PADDING
        label = self._label(rows[kept], flips[kept]).repeat_interleave(len(views), dim=0)
        return Batch(
            clip=clip if kept.all() else clip[kept.repeat_interleave(len(views)).to(clip.device)],
            label=label.to(clip.device, non_blocking=True),
            video=rows[kept].repeat_interleave(len(views)),
            view=torch.arange(len(views)).repeat(int(kept.sum())),
        )

    def _label(self, rows: Tensor, flips: Tensor) -> Tensor:
        """Return the labels of rows as they are after the flips: int64 V, or float32 V x classes."""
        import torch

        mirrored = torch.arange(self.num_classes)
        for one, other in self._index.mirror or ():
            mirrored[one], mirrored[other] = other, one
        column = self._index.table["label"]
        labels = [[int(number) for number in column.iat[int(row)]] for row in rows]
        if self._index.multi_label:
            hot = torch.zeros(len(rows), self.num_classes)
            for row, numbers in zip(hot, labels, strict=True):
                row[numbers] = 1
            return torch.where(flips.bool()[:, None], hot[:, mirrored], hot)
        label = torch.tensor([numbers[0] if numbers else -1 for numbers in labels], dtype=torch.long)
        return torch.where(flips.bool() & (label >= 0), mirrored[label], label)

    def _give_up(self, error: Exception | str, dead: bool) -> NoReturn:
        """Raise what an error means to the user when no file is at fault."""
        cause = error if isinstance(error, Exception) else None
        if dead or "receiving interrupted" in str(error):
            raise UserError(DEAD) from cause
        if isinstance(error, _watchdog.Hung):
            raise UserError(SLOW.format(_watchdog.BATCH_PATIENCE)) from cause
        if self.device == "cuda" and (meaning := _device_errors.explained(error)):
            raise meaning from cause
        raise cause or UserError(f"GPU: {error}, though software decodes the file: see `reelbench doctor`")

    def _kill(self) -> None:
        """End the workers, whatever they are at, and drop the pipeline: it cannot be used again."""
        for worker in self._processes:
            worker.kill()
        self._stop()

    def _stop(self) -> None:
        self._pipeline, self._processes = None, []

    def close(self) -> None:
        """End the worker processes. A closed stream may not be used again."""
        if self._running is not None:
            self._running.close()
        self._stop()
        self._files = None

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _copied(output: Any) -> Tensor:
    import torch

    return torch.from_dlpack(output.as_tensor()).clone()
