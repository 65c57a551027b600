"""A data set in, a stream of `Batch` out.

    with pipelines.open("train.parquet", clip=Clip(frames=8), batch=4, training=True) as stream:
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
from ..spec import Clip, Crop, Views
from ._colors import WEIGHTS, stated_to_nvdec
from ._files import flat
from .augment import Augment
from .source import Cutter, Order
from .stream import Batch, Stream

if TYPE_CHECKING:
    import numpy as np

    from .index import Index

__all__ = ["Augment", "Batch", "Stream", "decoders", "open"]

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
    training: bool = False,
    views: Views = Views(),  # noqa: B008 (frozen)
    crop: Crop = "random_resized",
    crop_area: tuple[float, float] = (0.08, 1.0),
    short_sides: tuple[int, int] | None = None,
    flip: float = 0.0,
    flip_swaps: tuple[tuple[int, int], ...] = (),
    flip_keeps: tuple[int, ...] = (),
    augment: Augment = Augment(),  # noqa: B008 (frozen)
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

    `batch` counts videos. `crop`, `crop_area`, `short_sides`, `flip` and `augment` concern training, `views` testing.
    `rank` and `world` share an epoch out. A flip exchanges the labels that `flip_swaps`, or else `index.mirror`, pairs;
    it is left out where both are missing (None), and for the labels `flip_keeps`. `first_epoch` and `first_batch`
    resume: the clips are those that an unbroken run would have seen. A misfit is a `UserError`.
    """
    index = _mirrored(_load(index), flip_swaps, flip_keeps)
    flip = flip if index.mirror is not None else 0.0
    order = Order(total=len(index), batch=batch, training=training, seed=seed, rank=rank, world=world)
    cutter = Cutter(
        clip=clip, views=views, training=training, crop=crop, crop_area=crop_area, short_sides=short_sides,
        flip=flip, flip_keeps=flip_keeps, augment=augment, seed=seed,
    )  # fmt: skip
    _check(order, device, workers, first_epoch, first_batch)
    return Stream(
        index, order, cutter, device=device, workers=workers, decoder=_choose(index, decoder, device, clip.sampling),
        known=_known(index, device), first_epoch=first_epoch, first_batch=first_batch,
    )  # fmt: skip


def _load(data: Index | str | Path) -> Index:
    from .index import Index

    return data if isinstance(data, Index) else Index.load(data)


def _mirrored(index: Index, swaps: tuple[tuple[int, int], ...], keeps: tuple[int, ...]) -> Index:
    """Return the index with the pairs of labels that a flip exchanges, those of a recipe before its own."""
    mirror = swaps or index.mirror
    named = {*keeps, *(label for pair in mirror or () for label in pair)}
    if strange := sorted(named - set(range(len(index.classes)))):
        raise UserError(
            f"flip_swaps, flip_keeps: label {strange[0]} is none of the index's {len(index.classes)} classes: "
            "is this recipe meant for another data set?"
        )
    return dataclasses.replace(index, mirror=mirror)


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
    # The correction of colors costs DALI's lead on a CPU, and nothing on a GPU.
    likely = known & ~index.table["color_matrix"].isin(WEIGHTS).to_numpy(bool) if device == "cpu" else known
    return ("dali", "software") if 2 * likely.sum() >= len(known) else ("software", "dali")


def _known(index: Index, device: Device) -> np.ndarray:
    """Return for each row whether DALI decodes it rightly: hidden or early frames would shift its numbers."""
    import numpy as np

    table = index.table
    pts, ends = flat(table["pts"])
    early = pts[np.append(0, ends[:-1])] < 0 if len(ends) else np.zeros(0, bool)
    plain = ~early & (table["hidden"].to_numpy() == 0) & (table["rotation"].to_numpy() == 0)
    kinds = list(zip(table["codec"], table["pix_fmt"], table["color_range"], strict=True))
    able = {kind: _nvdec(*kind) if device == "cuda" else kind[0] in CPU_CODECS for kind in set(kinds)}
    return plain & np.array([able[kind] for kind in kinds], dtype=bool)


def _nvdec(codec: str, pix_fmt: str, color_range: str) -> bool:
    """Whether NVDEC of the present GPU decodes this. AV1: Ampere's consumer chips and later, but not Hopper."""
    import torch

    if not stated_to_nvdec(codec, color_range):
        return False
    if codec == "av1":
        capability = torch.cuda.get_device_capability()
        return capability >= (8, 6) and capability[0] != 9 and "420p" in pix_fmt
    return pix_fmt in NVDEC_FORMATS.get("mjpeg" if codec == "frames" else codec, ())
