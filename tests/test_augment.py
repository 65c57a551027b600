"""Augmentation: what is drawn, what the graph makes of it (against Pillow), and that both are repeatable."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nvidia.dali import fn
from nvidia.dali.pipeline import pipeline_def
from PIL import Image, ImageEnhance, ImageFilter, ImageOps
from reelbench import pipelines
from reelbench.errors import UserError
from reelbench.pipelines import SamplerState, TrainTransform, augment, dali
from reelbench.pipelines.augment import POLICIES, Augment, AugmentParams
from reelbench.pipelines.source import ClipSampler
from reelbench.spec import Clip

SIZE = 32
CLIP = Clip(frames=3, stride=2, size=SIZE, short_side=SIZE, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


def sampled(chosen: Augment, count: int = 400, size: int = 224) -> list[AugmentParams]:
    return [chosen.sample(np.random.default_rng((5, i)), size) for i in range(count)]


@pytest.mark.parametrize("name", POLICIES)
def test_a_policy_draws_each_of_its_operations(name: str) -> None:
    policy = POLICIES[name]
    drawn = sampled(Augment(rand_augment=name))
    assert {len(params.operations) for params in drawn} == {policy.steps}
    made = {make(np.random.default_rng(0), 224)[0] for make in policy.operations}
    assert {int(operation) for params in drawn for operation in params.operations} == made
    assert not any(params.erased.any() for params in drawn)


def test_mmactions_operations_keep_their_order_and_imgaugs_do_not() -> None:
    ordered, shuffled = (
        [params.operations.tolist() for params in sampled(Augment(rand_augment=name))]
        for name in ("imgaug_default", "imgaug_n4_m7")
    )
    assert all(pair[1] == augment.EQUALIZE for pair in ordered if set(pair) == {augment.AFFINE, augment.EQUALIZE})
    places = {four.index(augment.EQUALIZE) for four in shuffled if augment.EQUALIZE in four}
    assert places == {0, 1, 2, 3}


def test_colour_jitter_scales_three_things_in_random_order() -> None:
    drawn = sampled(Augment(color_jitter=0.4))
    assert len({tuple(params.operations) for params in drawn}) == 6
    factors = np.stack([params.arguments[:, 0] for params in drawn])
    assert 0.6 <= factors.min() < 0.61 < 1.39 < factors.max() <= 1.4


def test_erasing_takes_timms_boxes_with_its_probability() -> None:
    boxes = np.stack([params.erased for params in sampled(Augment(erase=0.25), 2000)])
    taken = boxes[boxes.any(1)]
    assert 0.2 < len(taken) / len(boxes) < 0.3
    y, x, height, width = taken.T
    assert ((y + height <= 224) & (x + width <= 224)).all()
    share = height * width / 224**2
    assert 0.018 < share.min() < 0.03
    assert 0.28 < share.max() < 0.34
    assert 0.25 < (height / width).min() < 0.4
    assert 2.5 < (height / width).max() < 4


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"rand_augment": "imgaug"}, "unknown rand_augment policy 'imgaug'"),
        ({"erase": 1.5}, "must lie in 0..1"),
        ({"color_jitter": -0.1}, "must lie in 0..1"),
    ],
)
def test_nonsense_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Augment(**fields)


def picture() -> np.ndarray:
    """Return a smooth picture of all tones, H W 3."""
    rows, columns = np.mgrid[0:SIZE, 0:SIZE] / (SIZE - 1)
    return (np.stack([rows, columns, (rows + columns) / 2], -1) * 200 + 20).round().astype(np.uint8)


def shown(operation: int, *arguments: float, policy: str = "imgaug_default") -> np.ndarray:
    """Return what the graph makes of the picture, of both frames, which must agree: H W 3."""
    chosen = Augment(rand_augment=policy)
    values = np.zeros((chosen.steps, augment.NUM_ARGUMENTS), np.float32)
    values[0, : len(arguments)] = arguments
    operations = np.array([operation] + [augment.NOTHING] * (chosen.steps - 1), np.int32)

    @pipeline_def(enable_conditionals=True)
    def graph() -> Any:
        clip = fn.external_source(lambda: [np.stack([picture()] * 2)], layout="FHWC")
        params = fn.external_source(lambda: ([operations], [values]), num_outputs=2)
        return dali._augment(clip, params[0], params[1], chosen, False)

    pipeline = graph(batch_size=1, num_threads=1, device_id=None, prefetch_queue_depth=1)
    pipeline.build()
    first, second = np.asarray(pipeline.run()[0].at(0))
    assert np.array_equal(first, second)
    return first


def close(found: np.ndarray, expected: Image.Image | np.ndarray, tolerance: int, margin: int = 0) -> bool:
    inner = slice(margin, SIZE - margin)
    gap = np.abs(found.astype(int) - np.asarray(expected).astype(int))[inner, inner]
    return int(gap.max()) <= tolerance


@pytest.mark.slow  # every strength of every operation
@pytest.mark.parametrize("factor", [0.3, 1.0, 1.7])
def test_the_enhancements_are_pillows(factor: float) -> None:
    image = Image.fromarray(picture())
    assert close(shown(augment.BRIGHTNESS, factor), ImageEnhance.Brightness(image).enhance(factor), 1)
    assert close(shown(augment.CONTRAST, factor), ImageEnhance.Contrast(image).enhance(factor), 2)
    assert close(shown(augment.COLOR, factor), ImageEnhance.Color(image).enhance(factor), 3)
    assert close(shown(*flat(augment._sharpen(factor))), ImageEnhance.Sharpness(image).enhance(factor), 1, margin=1)


def flat(step: augment.Step) -> tuple[Any, ...]:
    return step[0], *step[1]


@pytest.mark.slow  # every operation, through DALI
def test_filters_and_tables_are_pillows() -> None:
    image = Image.fromarray(picture())
    blur = flat(augment._blur(np.random.default_rng(0), SIZE))
    assert close(shown(*blur), image.filter(ImageFilter.BLUR), 1, margin=2)
    assert close(shown(augment.POSTERIZE, 256 - 2**4), ImageOps.posterize(image, 4), 0)
    assert close(shown(augment.SOLARIZE, 100), ImageOps.solarize(image, 100), 0)
    assert close(shown(augment.SOLARIZE, 0), ImageOps.invert(image), 0)
    assert close(shown(augment.AUTOCONTRAST), ImageOps.autocontrast(image), 1)
    assert close(shown(augment.EQUALIZE), equalized(picture()), 1)
    assert close(shown(augment.NOTHING), image, 0)


def equalized(image: np.ndarray) -> np.ndarray:
    """Return OpenCV's histogram equalisation, which rounds otherwise than Pillow's."""
    ranks = np.stack([np.searchsorted(np.sort(c.ravel()), c, side="right") for c in np.moveaxis(image, -1, 0)], -1)
    lowest = ranks.min((0, 1))
    return np.round((ranks - lowest) / (SIZE * SIZE - lowest) * 255)


def test_pictures_move_the_right_way() -> None:
    source = picture()
    moved = shown(augment.AFFINE, 1, 0, 5, 0, 1, 0)
    assert np.array_equal(moved[:, :-5], source[:, 5:])
    assert (moved[:, -5:] == 0).all()
    assert (shown(augment.AFFINE, 1, 0, 5, 0, 1, 0, policy="imgaug_n4_m7")[:, -5:] == 128).all()
    quarter = augment._rotate(90)(np.random.default_rng(0), SIZE)[1]
    turns = [np.rot90(source, k) for k in (1, 3)]
    assert any(close(shown(augment.AFFINE, *quarter), turned, 1) for turned in turns)
    hole = shown(augment.CUTOUT, 4, 6, 8, 10)
    assert (hole[4:12, 6:16] == dali.GRAY).all()
    hole[4:12, 6:16] = source[4:12, 6:16]
    assert np.array_equal(hole, source)


FULL = Augment(rand_augment="imgaug_n4_m7", color_jitter=0.4, erase=0.5)


def epoch(data: dict[str, Path], *, batch: int, first_batch: int = 0, **options: Any) -> dict[int, torch.Tensor]:
    transform, sampler = TrainTransform(**{"augment": FULL, **options}), SamplerState(seed=3, batch=first_batch)
    with pipelines.open(data["train"], clip=CLIP, batch=batch, transform=transform, sampler=sampler) as stream:
        return {int(v): c for b in stream.epoch() for v, c in zip(b.video, b.clip, strict=True)}


@pytest.mark.slow  # three epochs, each with processes of its own
def test_a_look_belongs_to_the_sample_alone(tiny_synthetic: dict[str, Path]) -> None:
    """Another batch size and a start in mid-epoch show the same pixels."""
    whole, resumed = epoch(tiny_synthetic, batch=4), epoch(tiny_synthetic, batch=8, first_batch=1)
    assert len(resumed) == 16
    assert all(torch.equal(whole[row], clip) for row, clip in resumed.items())
    plain = epoch(tiny_synthetic, batch=8, augment=Augment())
    assert sum(not torch.equal(whole[row], clip) for row, clip in plain.items()) > 20


@pytest.mark.slow  # streams with workers
def test_an_erased_box_is_zero_in_every_frame(tiny_synthetic: dict[str, Path]) -> None:
    clips = epoch(tiny_synthetic, batch=8, augment=Augment(erase=1.0, color_jitter=0.01))
    for clip in clips.values():
        empty = (clip == 0).all(dim=0).all(dim=0)
        assert 0.02 * SIZE**2 * 0.8 < empty.sum() < 0.34 * SIZE**2


def test_short_sides_are_drawn(tiny_synthetic: dict[str, Path]) -> None:
    """From 32 to 64 a crop of 32 shows the whole of a square video, or down to a quarter of it."""

    clip_sampler = ClipSampler(clip=CLIP, transform=TrainTransform(crop="random", short_sides=(32, 64)))
    sides = [float(np.diff(clip_sampler.sample(16, (96, 96), 0, row).boxes[0, ::2])[0]) for row in range(200)]
    assert 48 <= min(sides) < 50
    assert 94 < max(sides) <= 96
    with pytest.raises(UserError, match="short_sides"):
        ClipSampler(clip=CLIP, transform=TrainTransform(short_sides=(16, 64)))
