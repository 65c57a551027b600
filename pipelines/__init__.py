"""A data set in, a stream of `Batch` out.

    with pipelines.open("train.parquet", clip=Clip(frames=8), batch=4, training=True) as stream:
        for batch in stream.epoch():
            model(batch.clip)

`open` chooses the decoder; everything after the decoding is one DALI graph, on the GPU and on the CPU alike. torch and
DALI are imported when a stream starts: the worker processes import this package and need neither.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from ..harness.errors import UserError, unknown
from ..harness.spec import Clip, Crop, Views
from .source import PADDING, Cutter, Files, Order, Source

if TYPE_CHECKING:
    from torch import Tensor

    from .index import Index

Device = Literal["cpu", "cuda"]
Decoder = Literal["auto", "dali", "software"]

CPU_CODECS = ("vp8", "vp9", "mjpeg")
NVDEC_FORMATS = {
    "h264": ("yuv420p", "yuvj420p"),
    "hevc": ("yuv420p", "yuvj420p", "yuv420p10le"),
    "vp8": ("yuv420p",),
    "vp9": ("yuv420p", "yuv420p10le"),
    "mpeg4": ("yuv420p",),
    "mjpeg": ("yuvj420p", "yuvj422p"),
}


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


def open(
    index: Index | str | Path,
    *,
    clip: Clip,
    batch: int,
    training: bool = False,
    views: Views = Views(),  # noqa: B008 (frozen)
    crop: Crop = "random_resized",
    crop_area: tuple[float, float] = (0.08, 1.0),
    flip: float = 0.0,
    seed: int = 0,
    rank: int = 0,
    world: int = 1,
    device: Device = "cpu",
    workers: int = 2,
    decoder: Decoder = "auto",
    first_epoch: int = 0,
    first_batch: int = 0,
) -> Stream:
    """Open a data set for training or for testing.

    `batch` counts videos. `crop`, `crop_area` and `flip` concern training; `views` concerns testing. `rank` and
    `world` share an epoch out. `first_epoch` and `first_batch` resume: the clips are those that an unbroken run would
    have seen. A misfit is a `UserError`.
    """
    index = _load(index)
    order = Order(total=len(index), batch=batch, training=training, seed=seed, rank=rank, world=world)
    cutter = Cutter(clip=clip, views=views, training=training, crop=crop, crop_area=crop_area, flip=flip, seed=seed)
    _check(order, device, workers, first_epoch, first_batch)
    return Stream(
        index, order, cutter, device=device, workers=workers, decoder=_choose(index, decoder, device),
        first_epoch=first_epoch, first_batch=first_batch,
    )  # fmt: skip


def _load(data: Index | str | Path) -> Index:
    from .index import Index

    return data if isinstance(data, Index) else Index.load(data)


def _check(order: Order, device: str, workers: int, first_epoch: int, first_batch: int) -> None:
    if order.batch < 1 or workers < 1:
        raise UserError(f"batch={order.batch} and workers={workers} must be at least 1")
    if not 0 <= order.rank < order.world:
        raise UserError(f"rank={order.rank} must lie in 0..{order.world - 1} (world={order.world})")
    if device not in ("cpu", "cuda"):
        raise unknown("device", device, ("cpu", "cuda"))
    if order.training and order.batches == 0:
        raise UserError(
            f"the index has {order.total} videos, fewer than one global batch ({order.batch} x {order.world} ranks): "
            "choose a smaller batch"
        )
    if first_epoch < 0 or not 0 <= first_batch < max(order.batches, 1):
        raise UserError(f"first_epoch={first_epoch}, first_batch={first_batch}: an epoch has {order.batches} batches")


def _choose(index: Index, decoder: str, device: str) -> str:
    """Return the decoder's name: DALI's own wherever it knows every file of the index."""
    if decoder not in ("auto", "dali", "software"):
        raise unknown("decoder", decoder, ("auto", "dali", "software"))
    if decoder != "auto":
        return decoder
    kinds = set(zip(index.table["codec"], index.table["pix_fmt"], strict=True))
    known = all(_nvdec(*kind) if device == "cuda" else kind[0] in CPU_CODECS for kind in kinds)
    # DALI numbers packets, so hidden ones shift the frames.
    return "dali" if known and not sum(index.table["hidden"]) else "software"


def _nvdec(codec: str, pix_fmt: str) -> bool:
    """Whether NVDEC of the present GPU decodes this. AV1: Ampere's consumer chips and later, but not Hopper."""
    import torch

    if codec == "av1":
        capability = torch.cuda.get_device_capability()
        return capability >= (8, 6) and capability[0] != 9 and "420p" in pix_fmt
    return pix_fmt in NVDEC_FORMATS.get(codec, ())


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
        if "receiving interrupted" in text or "pool that has been closed" in text:
            raise UserError(
                "a decoding worker process died, perhaps killed for lack of memory: "
                "choose fewer workers or a smaller batch"
            ) from error
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

        return dali.build(
            self._source(epoch, number),
            decoded=self.decoder == "software",
            device_id=torch.cuda.current_device() if self.device == "cuda" else None,
            batch=self.batch,
            workers=self.workers,
            threads=self.workers,
            depth=2,
        )

    def _source(self, epoch: int, number: int) -> Source:
        files = Files.of(self._index)
        if self.decoder == "dali":
            return Source(files, self._order, self._cutter, epoch, number)
        from .software import DecodedSource, Times

        return DecodedSource(files, self._order, self._cutter, epoch, number, times=Times.of(self._index))

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
