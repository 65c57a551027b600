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
from typing import TYPE_CHECKING

from ..errors import UserError, unknown
from ..spec import Clip, Views
from .augment import Augment
from .decoder_choice import Decoder, Device, choose, decoders, known, remember
from .source import Cutter, Order, Sampler
from .stream import Batch, Stream
from .transform import TrainTransform

if TYPE_CHECKING:
    from .index import Index

__all__ = ["Augment", "Batch", "Sampler", "Stream", "TrainTransform", "decoders", "open"]


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
    chosen, able = choose(index, decoder, device, clip.sampling), known(index, device)
    if device == "cuda" and chosen == "dali":
        remember(index, able)
    return Stream(
        index, order, cutter, device=device, workers=workers, decoder=chosen, known=able, first_epoch=sampler.epoch,
        first_batch=sampler.batch,
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
