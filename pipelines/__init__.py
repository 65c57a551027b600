"""A data set in, a stream of `Batch` out.

    with pipelines.open("train.parquet", clip=Clip(frames=8), batch=4, transform=TrainTransform()) as stream:
        for batch in stream.epoch():
            model(batch.clip)

`open` chooses the decoder (`reelbench data bench` measures which); everything after the decoding is one DALI graph, on
the GPU and on the CPU alike. torch and DALI are imported when a stream starts: the worker processes import this package
and need neither.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ..errors import UserError, unknown
from ..spec import Clip, Views
from ._files import flat
from .augment import Augment
from .source import Cutter, Order, Sampler
from .stream import Batch, Stream
from .transform import TrainTransform

if TYPE_CHECKING:
    import numpy as np

    from .index import Index

__all__ = ["Augment", "Batch", "Sampler", "Stream", "TrainTransform", "decoders", "open"]

Device = Literal["cpu", "cuda"]
Decoder = Literal["auto", "dali", "software"]

# DALI's CPU decoder knows MJPEG too, but a damaged picture there takes the whole process down.
CPU_CODECS = ("vp8", "vp9")
NVDEC_FORMATS = {
    "h264": ("yuv420p", "yuvj420p"),
    "hevc": ("yuv420p", "yuvj420p", "yuv420p10le"),
    "vp8": ("yuv420p",),
    "vp9": ("yuv420p", "yuv420p10le"),
    "mpeg4": ("yuv420p",),
    "mjpeg": ("yuvj420p", "yuvj422p"),
}


def open(
    index: Index | str | Path,
    *,
    clip: Clip,
    batch: int,
    views: Views = Views(),  # noqa: B008 (frozen)
    transform: TrainTransform | None = None,
    sampler: Sampler = Sampler(),  # noqa: B008 (frozen)
    device: Device = "cpu",
    workers: int = 2,
    decoder: Decoder = "auto",
) -> Stream:
    """Open a data set, with a `transform` for training, without one for testing by `views`.

    `batch` counts videos. `sampler` shares them out among ranks, and resumes: the clips are those that an unbroken run
    would have seen. A misfit is a `UserError`.
    """
    index = _load(index)
    if transform is not None:
        index = _mirrored(index, transform)
        transform = transform if index.mirror is not None else dataclasses.replace(transform, flip=0.0)
    order = Order(
        total=len(index), batch=batch, training=transform is not None, seed=sampler.seed, rank=sampler.rank,
        world=sampler.world,
    )  # fmt: skip
    cutter = Cutter(clip=clip, views=views, transform=transform, seed=sampler.seed)
    _check(order, device, workers, sampler)
    return Stream(
        index, order, cutter, device=device, workers=workers, decoder=_choose(index, decoder, device, clip.sampling),
        known=_known(index, device), first_epoch=sampler.epoch, first_batch=sampler.batch,
    )  # fmt: skip


def _load(data: Index | str | Path) -> Index:
    from .index import Index

    return data if isinstance(data, Index) else Index.load(data)


def _mirrored(index: Index, transform: TrainTransform) -> Index:
    """Return the index with the pairs of labels that a flip exchanges, those of the transform before its own."""
    mirror = transform.flip_swaps or index.mirror
    named = {*transform.flip_keeps, *(label for pair in mirror or () for label in pair)}
    if strange := sorted(named - set(range(len(index.classes)))):
        raise UserError(
            f"flip_swaps, flip_keeps: label {strange[0]} is none of the index's {len(index.classes)} classes: "
            "is this recipe meant for another data set?"
        )
    return dataclasses.replace(index, mirror=mirror)


def _check(order: Order, device: str, workers: int, sampler: Sampler) -> None:
    if order.batch < 1 or workers < 1:
        raise UserError(f"batch={order.batch} and workers={workers} must be at least 1")
    if device not in ("cpu", "cuda"):
        raise unknown("device", device, ("cpu", "cuda"))
    if order.training and order.batches == 0:
        raise UserError(
            f"the index has {order.total} videos, fewer than one global batch ({order.batch} x {order.world} ranks): "
            "choose a smaller batch"
        )
    if sampler.epoch < 0 or not 0 <= sampler.batch < max(order.batches, 1):
        raise UserError(f"epoch={sampler.epoch}, batch={sampler.batch}: an epoch has {order.batches} batches")


def _choose(index: Index, decoder: str, device: Device, sampling: str) -> str:
    """Return the decoder's name: the one that was measured to be the fastest here, else DALI's where it mostly can."""
    if decoder not in ("auto", "dali", "software"):
        raise unknown("decoder", decoder, ("auto", "dali", "software"))
    able = decoders(index, device)
    if decoder == "auto":
        from . import _decoder_cache

        measured = _decoder_cache.recall(index, device, "segments" if sampling in ("segments", "uniform") else "dense")
        return measured if measured in able else able[0]
    if decoder not in able:
        codecs = ", ".join(sorted(set(index.table["codec"])))
        raise UserError(f"decoder dali: DALI on this {device} knows none of the files ({codecs}): leave it to `auto`")
    return decoder


def decoders(index: Index, device: Device) -> tuple[Literal["dali", "software"], ...]:
    """Return the decoders of a device that can read the index, the likelier one first.

    DALI's is among them if it knows any of the files; software decodes the odd others then.
    """
    known = _known(index, device)
    if not known.any():
        return ("software",)
    return ("dali", "software") if 2 * known.sum() >= len(known) else ("software", "dali")


def _known(index: Index, device: Device) -> np.ndarray:
    """Return for each row whether DALI decodes it rightly: hidden or early frames would shift its numbers."""
    import numpy as np

    table = index.table
    pts, ends = flat(table["pts"])
    early = pts[np.append(0, ends[:-1])] < 0 if len(ends) else np.zeros(0, bool)
    plain = ~early & (table["hidden"].to_numpy() == 0) & (table["rotation"].to_numpy() == 0)
    kinds = list(zip(table["codec"], table["pix_fmt"], strict=True))
    able = {kind: _nvdec(*kind) if device == "cuda" else kind[0] in CPU_CODECS for kind in set(kinds)}
    return plain & np.array([able[kind] for kind in kinds], dtype=bool)


def _nvdec(codec: str, pix_fmt: str) -> bool:
    """Whether NVDEC of the present GPU decodes this. AV1: Ampere's consumer chips and later, but not Hopper."""
    import torch

    if codec == "av1":
        capability = torch.cuda.get_device_capability()
        return capability >= (8, 6) and capability[0] != 9 and "420p" in pix_fmt
    return pix_fmt in NVDEC_FORMATS.get("mjpeg" if codec == "frames" else codec, ())
