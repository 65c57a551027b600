"""Augmentation beyond crop and flip: sampled per clip on the host, applied to all its frames in the DALI graph.

The parameters of a clip are a short list of operations with their arguments. The graph applies them in order before the
normalization, and erases a box after it. The random generator alone determines them.

    color_jitter     brightness, contrast and color by 1 ± strength each, in random order       (torchvision)
    rand_augment     imgaug_n4_m7: 4 of imgaug.RandAugment's 18 operations at magnitude 7 of 30      (Video Swin, SSv2)
                     imgaug_default: 2 of MMAction's 15 operations at level 0.9, in their order      (TPS)
                     torchvision_n2_m9: 2 draws of RandAugment's 14 operations at 9 of 31 bins       (MViT, MaskFeat)
    erase            random erasing: with this probability, a box of 2 to 33 % of the area becomes the mean    (timm)

Two quirks of the originals are not reproduced: imgaug's RandAugment also flips and crops, whatever the labels; MMAction
samples the sign of a shear, translation or rotation once per run, here it is once per clip.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..errors import UserError, unknown

# Operations of the graph. Arguments: AFFINE the 2 x 3 matrix of the inverse map, FILTER a 5 x 5 kernel, CUTOUT y x h w.
NOTHING, AFFINE, FILTER, BRIGHTNESS, CONTRAST, COLOR, POSTERIZE, SOLARIZE, EQUALIZE, AUTOCONTRAST, CUTOUT = range(11)
NUM_ARGUMENTS = 25

Step = tuple[int, list[float]]
MakeStep = Callable[[np.random.Generator, float], Step]


class AugmentParams(NamedTuple):
    """Sampled parameters of a clip: `operations` int32 K, `arguments` float32 K x 25 (padded with zeros), `erased`.

    `erased` is the box (y, x, h, w) to erase, float32, in pixels of the crop; all zeros to erase nothing.
    """

    operations: np.ndarray
    arguments: np.ndarray
    erased: np.ndarray


class Policy(NamedTuple):
    """A RandAugment policy: each clip gets `steps` of the `operations`, at fixed magnitudes.

    `fill` is the gray level (0..255) that shears, translations and rotations leave at the borders. They interpolate
    linearly if `linear`, else by nearest neighbor.
    """

    steps: int
    operations: tuple[MakeStep, ...]
    fill: int
    linear: bool
    ordered: bool = False  # applied in the order of the list
    repeated: bool = False  # sampled with replacement


@dataclass(frozen=True, kw_only=True)
class Augment:
    """The augmentation of training clips: recipe fields of the same names. Raises UserError if one is out of range.

    `rand_augment` is a name in `POLICIES`, or "" for none; `color_jitter` a strength, `erase` a probability, in 0..1.
    """

    rand_augment: str = ""
    color_jitter: float = 0.0
    erase: float = 0.0

    def __post_init__(self) -> None:
        if self.rand_augment and self.rand_augment not in POLICIES:
            raise unknown("rand_augment policy", self.rand_augment, POLICIES)
        if not 0 <= self.color_jitter <= 1 or not 0 <= self.erase <= 1:
            raise UserError(f"color_jitter={self.color_jitter} and erase={self.erase} must lie in 0..1")

    @property
    def steps(self) -> int:
        """Number of operations applied to each clip."""
        return (3 if self.color_jitter else 0) + (POLICIES[self.rand_augment].steps if self.rand_augment else 0)

    @property
    def active(self) -> bool:
        """Whether clips are changed at all."""
        return self.steps > 0 or self.erase > 0

    @property
    def policy(self) -> Policy:
        """The RandAugment policy, or one without operations."""
        return POLICIES.get(self.rand_augment, Policy(0, (), 0, linear=True))

    def sample(self, rng: np.random.Generator, size: int) -> AugmentParams:
        """Sample the parameters of one clip of `size` x `size` pixels."""
        steps = _jitter(rng, self.color_jitter) if self.color_jitter else []
        steps += _choose(self.policy, rng, size)
        arguments = np.zeros((len(steps), NUM_ARGUMENTS), np.float32)
        for row, (_, values) in zip(arguments, steps, strict=True):
            row[: len(values)] = values
        operations = np.array([operation for operation, _ in steps], np.int32)
        return AugmentParams(operations, arguments, np.array(_erased(rng, self.erase, size), np.float32))

    def used(self, params: AugmentParams) -> tuple[np.ndarray, ...]:
        """Return the arrays of `params` that the graph uses."""
        return (*params[: 2 if self.steps else 0], *params[2 : 3 if self.erase else 2])


def _jitter(rng: np.random.Generator, strength: float) -> list[Step]:
    order = rng.permutation([BRIGHTNESS, CONTRAST, COLOR])
    return [(int(operation), [rng.uniform(1 - strength, 1 + strength)]) for operation in order]


def _choose(policy: Policy, rng: np.random.Generator, size: int) -> list[Step]:
    chosen = rng.choice(len(policy.operations), policy.steps, replace=policy.repeated) if policy.steps else []
    return [policy.operations[i](rng, size) for i in (sorted(chosen) if policy.ordered else chosen)]


def _erased(rng: np.random.Generator, chance: float, size: int) -> list[float]:
    """Return timm's box (y, x, h, w): 2 to 33 % of the area, aspect ratio 0.3 to 3.3; zeros to erase nothing."""
    if rng.random() < chance:
        for _ in range(10):
            area = rng.uniform(0.02, 1 / 3) * size * size
            ratio = math.exp(rng.uniform(math.log(0.3), math.log(1 / 0.3)))
            height, width = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if height < size and width < size:
                return [int(rng.integers(size - height + 1)), int(rng.integers(size - width + 1)), height, width]
    return [0, 0, 0, 0]


def _sign(rng: np.random.Generator) -> int:
    return int(rng.choice((-1, 1)))


def _plain(operation: int, *arguments: float) -> MakeStep:
    return lambda rng, size: (operation, list(arguments))


def _enhance(operation: int, change: float) -> MakeStep:
    """Scale by 1 ± change. For sharpness (FILTER), 0 is the smoothed image and 1 the image itself."""

    def make(rng: np.random.Generator, size: float) -> Step:
        factor = 1 + _sign(rng) * change
        return _sharpen(factor) if operation == FILTER else (operation, [factor])

    return make


def _sharpen(factor: float) -> Step:
    smooth = np.pad(np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]]) / 13, 1)
    identity = np.pad(np.ones((1, 1)), 2)
    return FILTER, (smooth + factor * (identity - smooth)).flatten().tolist()


def _blur(rng: np.random.Generator, size: float) -> Step:
    ring = np.pad(np.zeros((3, 3)), 1, constant_values=1 / 16)
    return FILTER, ring.flatten().tolist()


def _shear(axis: int, slope: float) -> MakeStep:
    def make(rng: np.random.Generator, size: float) -> Step:
        matrix = np.eye(2, 3)
        matrix[axis, 1 - axis] = _sign(rng) * slope
        return AFFINE, matrix.flatten().tolist()

    return make


def _translate(axis: int, share: float) -> MakeStep:
    def make(rng: np.random.Generator, size: float) -> Step:
        matrix = np.eye(2, 3)
        matrix[axis, 2] = _sign(rng) * round(share * size)
        return AFFINE, matrix.flatten().tolist()

    return make


def _rotate(degrees: float) -> MakeStep:
    def make(rng: np.random.Generator, size: float) -> Step:
        angle, middle = math.radians(_sign(rng) * degrees), size / 2
        cos, sin = math.cos(angle), math.sin(angle)
        x, y = middle - cos * middle + sin * middle, middle - sin * middle - cos * middle
        return AFFINE, [cos, -sin, x, sin, cos, y]

    return make


def _cutout(share: float) -> MakeStep:
    def make(rng: np.random.Generator, size: float) -> Step:
        side = round(share * size)
        y, x = (int(v) - side // 2 for v in rng.integers(int(size), size=2))
        top, left = max(y, 0), max(x, 0)
        return CUTOUT, [top, left, min(y + side, size) - top, min(x + side, size) - left]

    return make


def _both_axes(make: Callable[[int, float], MakeStep], amount: float) -> tuple[MakeStep, MakeStep]:
    return make(0, amount), make(1, amount)


def _bits(kept: int) -> MakeStep:
    return _plain(POSTERIZE, 256 - 2 ** (8 - kept))


def _imgaug(count: int, magnitude: int) -> Policy:
    level = magnitude / 30
    return Policy(
        count,
        (
            _plain(NOTHING), _plain(AUTOCONTRAST), _plain(EQUALIZE), _plain(SOLARIZE, 0), _rotate(30 * level),
            _bits(8 - int(6 * level)), _plain(SOLARIZE, 256 - int(256 * level)),
            *(_enhance(operation, 0.9 * level) for operation in (COLOR, CONTRAST, BRIGHTNESS, FILTER)),
            *_both_axes(_shear, math.tan(0.3 * level)), *_both_axes(_translate, 0.33 * level),
            _cutout(20 / 32 * level), _blur, lambda rng, size: _sharpen(0),
        ),
        fill=128,
        linear=False,
    )  # fmt: skip


def _mmaction(level: float) -> Policy:
    factor = 1.8 * level + 0.1
    return Policy(
        2,
        (
            *_both_axes(_shear, math.tan(math.radians(17.19) * level)), *_both_axes(_translate, 0.2 * level),
            _rotate(30 * level), _bits(max(1, int(4 * level))), _plain(SOLARIZE, 256 * level), _plain(COLOR, factor),
            _plain(CONTRAST, factor), _plain(BRIGHTNESS, factor), lambda rng, size: _sharpen(factor),
            _plain(AUTOCONTRAST), _plain(EQUALIZE), _plain(SOLARIZE, 0), _cutout(0.2 * level),
        ),
        fill=0,
        linear=True,
        ordered=True,
    )  # fmt: skip


def _torchvision(count: int, bin: int) -> Policy:
    level = bin / 30
    return Policy(
        count,
        (
            _plain(NOTHING), *_both_axes(_shear, 0.3 * level), *_both_axes(_translate, 150 / 331 * level),
            _rotate(30 * level), *(_enhance(operation, 0.9 * level) for operation in (BRIGHTNESS, COLOR, CONTRAST)),
            _enhance(FILTER, 0.9 * level), _bits(8 - round(bin / 7.5)), _plain(SOLARIZE, 255 * (1 - level)),
            _plain(AUTOCONTRAST), _plain(EQUALIZE),
        ),
        fill=0,
        linear=False,
        repeated=True,
    )  # fmt: skip


POLICIES = {
    "imgaug_n4_m7": _imgaug(4, 7),
    "imgaug_default": _mmaction(0.9),
    "torchvision_n2_m9": _torchvision(2, 9),
}
