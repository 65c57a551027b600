"""Every family's `micro` trained on the harder built-in synthetic set, long enough to differ, with five seeds.

An hour or two on two CPU cores, minutes on a GPU: `reelbench run learn --device cuda`. Reports merge cases that differ
only in their seed into one row: the mean with its interval.
"""

from dataclasses import replace

from ..spec import Case, Clip, Suite, Views
from .quick import RECIPES

SEEDS = range(5)
EPOCHS = 4  # of every family: 960 steps
CLIP = Clip(frames=8, stride=4, size=32, short_side=32)  # 29 of 32 frames: both motions of a pair
# What these two need to leave chance on this set: the rate that the windowed models have, and a wider start.
SLOWER = {"tps": replace(RECIPES["tps"], lr=1e-3)}
OPTIONS = {"video_swin": {"init_std": 0.2}}

SUITE = Suite(
    name="learn",
    description="every micro trained long on the harder synthetic set, five seeds each: an hour or two on two cores",
    cases=tuple(
        Case(
            model=f"{family}/micro",
            data="synthetic-hard",
            recipe=replace(recipe, epochs=EPOCHS, validate_epochs=EPOCHS),
            options=OPTIONS.get(family, {}),
            clip=CLIP,
            views=Views(),
            metrics=("parameters", "flops", "accuracy", "frame_order"),
            seed=seed,
            time_limit=4 * 3600,
        )
        for seed in SEEDS  # seeds outermost: an interrupted run has every family
        for family, recipe in (RECIPES | SLOWER).items()
    ),
)
