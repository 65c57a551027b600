"""The training stream of a recipe, as `reelbench train` uses it and `reelbench data show` draws it."""

from __future__ import annotations

from ... import pipelines
from ...pipelines.index import Index
from ...spec import Clip, Decoder, Recipe


def open_stream(
    index: Index,
    recipe: Recipe,
    clip: Clip,
    *,
    batch: int,
    device: pipelines.Device,
    workers: int,
    sampler: pipelines.SamplerState,
    decoder: Decoder = "auto",
) -> pipelines.Stream:
    """Open a training stream with the recipe's crop, flip and augmentation; `batch` is per rank, see `pipelines.open`.

    Mixup and cutmix are not part of it: the objective applies them to whole batches on the device.
    """
    return pipelines.open(
        index, clip=clip, batch=batch, transform=transform(recipe), sampler=sampler, device=device, workers=workers,
        decoder=decoder,
    )  # fmt: skip


def transform(recipe: Recipe) -> pipelines.TrainTransform:
    """Return the recipe's augmentation. Raises UserError if it names an unknown policy or an impossible crop."""
    return pipelines.TrainTransform(
        crop=recipe.crop, crop_area=recipe.crop_area, short_sides=recipe.short_sides, flip=recipe.flip,
        flip_swaps=recipe.flip_swaps, flip_keeps=recipe.flip_keeps,
        augment=pipelines.Augment(
            rand_augment=recipe.rand_augment, color_jitter=recipe.color_jitter, erase=recipe.erase
        ),
    )  # fmt: skip
