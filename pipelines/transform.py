"""The training transform: random crop, flip and augmentation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

from ..errors import UserError, unknown
from ..spec import Crop
from .augment import Augment


@dataclass(frozen=True, kw_only=True)
class TrainTransform:
    """The random transform of training clips, from the `Recipe` fields of the same names; testing has none.

    `crop_area` is the range of the share of the frame that a `random_resized` crop takes; other crops ignore it. The
    short side, in pixels, is sampled from `short_sides`, both ends included (None: the clip's own). `flip` is the
    probability of a horizontal flip. A flip also swaps the labels that `flip_swaps`, or else the index, pairs. Videos
    with a label in `flip_keeps` are never flipped, nor is any if the index says that flipping makes some label wrong
    (`mirror` is None) and `flip_swaps` is empty. Raises UserError if `crop`, `crop_area` or `flip` is out of range; the
    other fields are checked by `pipelines.open`.
    """

    crop: Crop = "random_resized"
    crop_area: tuple[float, float] = (0.08, 1.0)
    short_sides: tuple[int, int] | None = None
    flip: float = 0.0
    flip_swaps: tuple[tuple[int, int], ...] = ()
    flip_keeps: tuple[int, ...] = ()
    augment: Augment = Augment()

    def __post_init__(self) -> None:
        if self.crop not in get_args(Crop):
            raise unknown("crop", self.crop, get_args(Crop))
        if not 0 < self.crop_area[0] <= self.crop_area[1] <= 1:
            raise UserError(f"crop_area={self.crop_area} must be two ascending numbers within 0..1")
        if not 0 <= self.flip <= 1:
            raise UserError(f"flip={self.flip} must lie in 0..1")
