"""The data loader: an index of videos in, batches of clips (`Batch`) out.

    with pipelines.open("train.parquet", clip=Clip(frames=8), batch=4, transform=TrainTransform()) as stream:
        for batch in stream.epoch():
            model(batch.clip)

`open` picks the decoder, the fastest one if `reelbench data bench` has measured it. All that follows decoding is one
DALI graph, the same on GPU and CPU. torch and DALI are imported when a stream starts, because the worker processes
import this package and need neither.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import UserError, unknown
from ..spec import Clip, Decoder, Views
from .augment import Augment
from .decoder_choice import Device, choose, decoders, register_nvdec, supported
from .source import BatchSampler, ClipSampler, SamplerState
from .stream import Batch, Stream
from .transform import TrainTransform

if TYPE_CHECKING:
    from .index import Index

__all__ = ["Augment", "Batch", "SamplerState", "Stream", "TrainTransform", "decoders", "open"]


def open(
    index: Index | str | Path,
    *,
    clip: Clip,
    batch: int,
    views: Views = Views(),  # noqa: B008 (frozen)
    transform: TrainTransform | None = None,
    sampler: SamplerState = SamplerState(),  # noqa: B008 (frozen)
    device: Device = "cpu",
    workers: int = 2,
    decoder: Decoder = "auto",
) -> Stream:
    """Open a data set: for training if there is a `transform` (then `views` is ignored), else for testing with `views`.

    `index` is an `Index` or the path of an index file. `batch` is the number of videos per batch and rank; `workers`
    the number of processes. `sampler` says which shard of the videos this rank reads, and where to resume: a resumed
    run sees the clips that an uninterrupted one would have seen. Raises UserError if the index cannot be read, has
    fewer videos than a global batch of training, or the arguments contradict each other or the index.
    """
    index = _load(index)
    if transform is not None:
        index = _mirrored(index, transform)
        transform = transform if index.mirror is not None else dataclasses.replace(transform, flip=0.0)
    batch_sampler = BatchSampler(
        total=len(index), batch=batch, training=transform is not None, seed=sampler.seed, rank=sampler.rank,
        world=sampler.world,
    )  # fmt: skip
    clip_sampler = ClipSampler(clip=clip, views=views, transform=transform, seed=sampler.seed)
    _check(batch_sampler, device, workers, sampler)
    chosen, decodable = choose(index, decoder, device, clip.sampling), supported(index, device)
    if device == "cuda" and chosen == "dali":
        register_nvdec(index, decodable)
    return Stream(
        index, batch_sampler, clip_sampler, device=device, workers=workers, decoder=chosen, supported=decodable,
        first_epoch=sampler.epoch, first_batch=sampler.batch,
    )  # fmt: skip


def _load(data: Index | str | Path) -> Index:
    from .index import Index

    return data if isinstance(data, Index) else Index.load(data)


def _mirrored(index: Index, transform: TrainTransform) -> Index:
    """Return the index with the label pairs that a flip swaps: the transform's if it has any, else the index's."""
    mirror = transform.flip_swaps or index.mirror
    named = {*transform.flip_keeps, *(label for pair in mirror or () for label in pair)}
    if strange := sorted(named - set(range(len(index.classes)))):
        raise UserError(
            f"flip_swaps, flip_keeps: label {strange[0]} is none of the index's {len(index.classes)} classes: "
            "is this recipe meant for another data set?"
        )
    return dataclasses.replace(index, mirror=mirror)


def _check(batch_sampler: BatchSampler, device: str, workers: int, sampler: SamplerState) -> None:
    if batch_sampler.batch < 1 or workers < 1:
        raise UserError(f"batch={batch_sampler.batch} and workers={workers} must be at least 1")
    if device not in ("cpu", "cuda"):
        raise unknown("device", device, ("cpu", "cuda"))
    if batch_sampler.training and batch_sampler.batches == 0:
        raise UserError(
            f"the index has {batch_sampler.total} videos, fewer than one global batch "
            f"({batch_sampler.batch} x {batch_sampler.world} ranks): choose a smaller batch"
        )
    if sampler.epoch < 0 or not 0 <= sampler.batch < max(batch_sampler.batches, 1):
        raise UserError(f"epoch={sampler.epoch}, batch={sampler.batch}: an epoch has {batch_sampler.batches} batches")
