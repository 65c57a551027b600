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
    sampler: pipelines.SamplerState,
) -> pipelines.Stream:
    """Open an index's videos as the recipe crops, flips and augments them; `batch` is one rank's, see `pipelines.open`.

    Mixup and cutmix follow on the device, where whole batches are.
    """
    return pipelines.open(
        index, clip=clip, batch=batch, transform=transform(recipe), sampler=sampler, device=device, workers=workers
    )  # fmt: skip


def transform(recipe: Recipe) -> pipelines.TrainTransform:
    """Return how a recipe's clips are changed. Raises UserError if it names an unknown policy or an impossible crop."""
    return pipelines.TrainTransform(
        crop=recipe.crop, crop_area=recipe.crop_area, short_sides=recipe.short_sides, flip=recipe.flip,
        flip_swaps=recipe.flip_swaps, flip_keeps=recipe.flip_keeps,
        augment=pipelines.Augment(
            rand_augment=recipe.rand_augment, color_jitter=recipe.color_jitter, erase=recipe.erase
        ),
    )  # fmt: skip
