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
from typing import TYPE_CHECKING

from ..errors import UserError, unknown
from ..spec import Clip, Crop, Views
from .augment import Augment
from .decoder_choice import Decoder, Device, choose, decoders, known, remember
from .source import Cutter, Order
from .stream import Batch, Stream

if TYPE_CHECKING:
    from .index import Index

__all__ = ["Augment", "Batch", "Stream", "decoders", "open"]


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
    chosen, able = choose(index, decoder, device, clip.sampling), known(index, device)
    if device == "cuda" and chosen == "dali":
        remember(index, able)
    return Stream(
        index, order, cutter, device=device, workers=workers, decoder=chosen, known=able, first_epoch=first_epoch,
        first_batch=first_batch,
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
