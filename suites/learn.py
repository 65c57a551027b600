"""Every family's `micro` trained on the harder built-in synthetic set, long enough to differ, with three seeds.

An hour or two on two CPU cores, minutes on a GPU: `reelbench run learn --device cuda`. Reports merge cases that differ
only in their seed into one row: the mean with its interval.
"""

from dataclasses import replace

from ..spec import Case, Clip, Suite, Views
from .quick import RECIPES

SEEDS = (0, 1, 2)
CLIP = Clip(frames=8, stride=4, size=32, short_side=32)  # 29 of 32 frames: both motions of a pair

SUITE = Suite(
    name="learn",
    description="every micro trained long on the harder synthetic set, three seeds each: an hour or two on two cores",
    cases=tuple(
        Case(
            model=f"{family}/micro",
            data="synthetic-hard",
            recipe=replace(recipe, epochs=8, validate_epochs=4),
            clip=CLIP,
            views=Views(),
            metrics=("parameters", "flops", "accuracy", "frame_order"),
            seed=seed,
            time_limit=4 * 3600,
        )
        for seed in SEEDS  # seeds outermost: an interrupted run has every family
        for family, recipe in RECIPES.items()
    ),
)
