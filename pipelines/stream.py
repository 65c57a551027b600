"""`Stream`: the epochs of a data set as batches. The DALI pipeline is built at the first batch.

Unreadable videos are skipped and listed in `Stream.skipped`. The workers find read errors; if a decoder fails, crashes
or hangs, `_watchdog` finds the video, and the pipeline is rebuilt at the same batch. A video that only the GPU fails to
decode is decoded in software from then on. An error of the GPU itself is raised as a UserError.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from multiprocessing import active_children, connection
from multiprocessing.process import BaseProcess
from typing import TYPE_CHECKING, Any, NoReturn

from ..errors import UserError
from . import _device_errors, _handover, _watchdog, labels, nvdec
from ._colors import WEIGHTS
from ._files import Files
from ._video import SkippedVideo
from ._workers import end_at_exit
from .source import MARKS, PADDING, BatchSampler, ClipSampler, EncodedSource

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from .index import Index

DEAD = "a decoding worker process died, perhaps killed for lack of memory: choose fewer workers or a smaller batch"
KILL_TIMEOUT = 5.0  # seconds for a killed worker to end
SLOW = "no batch for {:.0f} s, though each of its files decodes alone: check the disk, or choose a smaller batch"
DEPTH = 2  # batches that the workers prepare in advance, and as many again that DALI does
NOTHING = 2  # the length of an empty JSON list


@dataclass
class Batch:
    """A batch of clips: N = videos x views. The views of a video are adjacent, all clips of its first crop first.

    In testing a batch may hold fewer videos: skipped ones are left out, and the last batch may be incomplete.

    `clip` is float32 N x 3 x T x H x W, normalized. `label` is int64 N (-1: unknown), or multi-hot float32 N x classes
    in a multi-label set; a flipped clip has the swapped label where a flip swaps it. Both are on the stream's device.
    `video` (the row of the index) and `view` are int64 N, on the CPU.
    """

    clip: Tensor
    label: Tensor
    video: Tensor
    view: Tensor


class Stream:
    """Epochs of batches. `decoder` is the chosen decoder, `batches` the batches per epoch on this rank.

    A test yields fewer than `batches` if all videos of a batch are skipped.

    With `decoder="dali"`, the rows that DALI cannot decode correctly (not `supported`) are decoded in software.
    `threads` is DALI's number of threads: `workers`, with NVDEC at least two per engine; it may be changed before the
    first epoch.
    `metric` is the data set's usual metric, `listed` the number of videos in its official list, missing ones included.
    """

    def __init__(
        self,
        index: Index,
        batch_sampler: BatchSampler,
        clip_sampler: ClipSampler,
        *,
        device: str,
        workers: int,
        decoder: str,
        supported: np.ndarray,
        first_epoch: int = 0,
        first_batch: int = 0,
    ) -> None:
        self.classes, self.num_classes = index.classes, len(index.classes)
        self.metric, self.listed = index.metric, index.listed
        self.batch, self.batches = batch_sampler.batch, batch_sampler.batches
        self.device, self.workers, self.decoder = device, workers, decoder
        on_nvdec = device == "cuda" and decoder == "dali"
        self.threads = max(workers, 2 * nvdec.engines()) if on_nvdec else workers
        self._index, self._batch_sampler, self._clip_sampler, self._supported = (
            index,
            batch_sampler,
            clip_sampler,
            supported.copy(),
        )
        self._corrects = bool((index.table["color_matrix"].isin(WEIGHTS).to_numpy(bool) & supported).any())
        self._files: Files | None = None
        self._skipped: dict[int, str] = {}
        self._undecodable: dict[int, str] = {}
        self._proof: list[tuple[int, int]] = []  # a sample that the device has decoded
        self._next = first_epoch, first_batch
        self._pipeline: Any = None
        self._processes: list[BaseProcess] = []
        self._at = self._next
        self._running: Generator[Batch, None, None] | None = None

    @property
    def skipped(self) -> tuple[SkippedVideo, ...]:
        """The videos skipped so far by any worker, in index order; `Index.skipped` is not included.

        Training substitutes other videos for them.
        """
        paths = self._index.table["path"]
        return tuple(
            SkippedVideo(str(self._index.root / paths.iat[row]), reason)
            for row, reason in sorted(self._skipped.items())
        )

    def epoch(self) -> Iterator[Batch]:
        """Return the next epoch's batches; the first epoch starts where the stream was opened.

        Closing the iterator early, or calling `epoch` again, skips the rest of the epoch. Iterating raises UserError if
        decoding fails and no single video is the cause.
        """
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
                self._proof = [(epoch, row) for row in batch.video.tolist() if self._supported[row]][:1] or self._proof
                if len(batch.video):  # all videos of a test's batch may have been skipped
                    yield batch
            complete = True
        finally:
            if complete:
                self._rewind(epoch + 1)
            else:
                self._stop()

    def _outputs(self, epoch: int, number: int) -> Any:
        """Return the pipeline's outputs for a batch, retrying without the videos that make a decoder fail."""
        while True:
            pipeline = self._ready(epoch, number)
            try:
                return _watchdog.call_with_timeout(_watchdog.BATCH_TIMEOUT, pipeline.run)
            except Exception as error:
                dead = bool(connection.wait([worker.sentinel for worker in self._processes], timeout=0))
                self._kill()
                report = self._find_failing_videos(error, epoch, number)
                if not report.failed and (report.gpu_at_fault or not report.gpu_only):
                    self._give_up(next(iter(report.gpu_only.values()), error), dead)
                self._undecodable.update(report.failed)
                self._skipped.update(report.failed)
                if report.decoded:
                    self._leave_to_software(report.gpu_only)

    def _leave_to_software(self, gpu_only: dict[int, str]) -> None:
        for row, reason in gpu_only.items():
            self._supported[row] = False
            path = self._index.root / self._index.table["path"].iat[row]
            print(f"decoded in software from now on: {path}: on the GPU it {reason}", file=sys.stderr)

    def _find_failing_videos(self, error: Exception, epoch: int, number: int) -> _watchdog.DecodeReport:
        """Find the videos that make a decoder fail, in this batch or those prepared in advance."""
        # DALI passes a worker's exception on only as the text of a traceback: hence the marks around the message.
        if message := re.search(f"{re.escape(MARKS[0])}(.+?){re.escape(MARKS[1])}", str(error), re.DOTALL):
            raise UserError(message[1]) from None
        source, report = self._source(epoch, number), _watchdog.DecodeReport()
        for ahead in range(2 * DEPTH + 1):
            try:
                position = source.position(ahead)
            except StopIteration:
                break
            samples = [
                (position[0], int(row))
                for row in self._batch_sampler.rows(*position)
                if int(row) not in self._undecodable
            ]
            proof = self._proof if self.device == "cuda" and not report.decoded else []
            report |= _watchdog.find_failing_videos(source, dict.fromkeys([*proof, *samples]), self._device_id())
            if report.failed or len(report.gpu_only) >= _watchdog.GPU_FAILURES or (report.gpu_only and report.decoded):
                break
        return report

    def _rewind(self, epoch: int) -> None:
        """Move to the start of the next epoch: training is already there, a test's pipeline is reset."""
        self._at = epoch, 0
        if self._pipeline is not None and not self._batch_sampler.training:
            try:
                self._pipeline.run()
            except StopIteration:
                self._pipeline.reset()

    def _ready(self, epoch: int, number: int) -> Any:
        """Return the pipeline, positioned at this batch."""
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

    def _source(self, epoch: int, number: int) -> EncodedSource:
        if self._files is None:
            self._files = Files(self._index)
        parts = self._files, self._batch_sampler, self._clip_sampler, epoch, number
        if self.decoder == "software":
            from .software import DecodedSource

            return DecodedSource(*parts, undecodable=self._undecodable)
        # NVDEC seeks by itself; DALI's CPU decoder does not.
        options: Any = {
            "excerpts": self.device == "cpu", "uncropped": self.device == "cuda", "corrects": self._corrects,
            "undecodable": self._undecodable,
        }  # fmt: skip
        if self._supported.all():
            return EncodedSource(*parts, **options)
        from .software import MixedSource

        return MixedSource(*parts, **options, supported=self._supported)

    def _batch(self, outputs: Any) -> Batch:
        import numpy as np
        import torch

        *views, flips, rows, skipped = outputs
        for text in skipped:
            if text.shape()[0] > NOTHING:
                self._skipped.update(dict(json.loads(np.asarray(text).tobytes())))
        clip, flips, rows = _handover.to_torch(views, on_gpu=self.device == "cuda"), _copied(flips), _copied(rows)
        kept = rows != PADDING
        label = self._label(rows[kept], flips[kept]).repeat_interleave(len(views), dim=0)
        return Batch(
            clip=clip if kept.all() else clip[kept.repeat_interleave(len(views)).to(clip.device)],
            label=label.to(clip.device, non_blocking=True),
            video=rows[kept].repeat_interleave(len(views)),
            view=torch.arange(len(views)).repeat(int(kept.sum())),
        )

    def _label(self, rows: Tensor, flips: Tensor) -> Tensor:
        """Return the labels of rows after their flips: int64 V, or multi-hot float32 V x classes."""
        import torch

        mirrored = torch.arange(self.num_classes)
        for one, other in self._index.mirror or ():
            mirrored[one], mirrored[other] = other, one
        label = labels.of(self._index, rows.tolist())
        if self._index.multi_label:
            return torch.where(flips.bool()[:, None], label[:, mirrored], label)
        return torch.where(flips.bool() & (label >= 0), mirrored[label], label)

    def _give_up(self, error: Exception | str, dead: bool) -> NoReturn:
        """Raise the error as a UserError with a remedy where one is known: no single video is the cause."""
        cause = error if isinstance(error, Exception) else None
        if dead or "receiving interrupted" in str(error):
            raise UserError(DEAD) from cause
        if isinstance(error, _watchdog.DecodeTimeout):
            raise UserError(SLOW.format(_watchdog.BATCH_TIMEOUT)) from cause
        if self.device == "cuda" and (meaning := _device_errors.explained(error)):
            raise meaning from cause
        raise cause or UserError(f"GPU: {error}, though software decodes the file: see `reelbench doctor`")

    def _kill(self) -> None:
        """Kill the workers at once and drop the pipeline, which cannot be used again."""
        from . import dali

        for worker in self._processes:
            worker.kill()
        for worker in self._processes:
            worker.join(KILL_TIMEOUT)  # one that waits for a dead disk ends only with it
        if self._pipeline is not None and self._processes:
            dali.free_locks(self._pipeline)
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
