"""The training stream that a recipe describes: what `reelbench train` feeds a model, and `data show` shows."""

from __future__ import annotations

from ... import pipelines
from ...pipelines.index import Index
from ...spec import Clip, Recipe


def open_stream(
    index: Index,
    recipe: Recipe,
    clip: Clip,
    *,
    batch: int,
    device: pipelines.Device,
    workers: int,
    seed: int,
    rank: int = 0,
    world: int = 1,
    first_epoch: int = 0,
    first_batch: int = 0,
) -> pipelines.Stream:
    """Open an index's videos as the recipe crops, flips and augments them; `batch` is one rank's, see `pipelines.open`.

    Mixup and cutmix follow on the device, where whole batches are.
    """
    return pipelines.open(
        index, clip=clip, training=True, batch=batch, crop=recipe.crop, crop_area=recipe.crop_area,
        short_sides=recipe.short_sides, flip=recipe.flip, flip_swaps=recipe.flip_swaps, flip_keeps=recipe.flip_keeps,
        augment=augment(recipe), seed=seed, rank=rank, world=world, device=device, workers=workers,
        first_epoch=first_epoch, first_batch=first_batch,
    )  # fmt: skip


def augment(recipe: Recipe) -> pipelines.Augment:
    """Return how a recipe's clips are changed; an unknown policy is a `UserError`."""
    return pipelines.Augment(rand_augment=recipe.rand_augment, color_jitter=recipe.color_jitter, erase=recipe.erase)
