"""Every family's `micro` trained three times from other weights and in another order: how far a single run can be off.

Hours on two CPU cores, minutes on a GPU: `reelbench run learn --device cuda`. The rows of a model differ in their seed.
"""

from dataclasses import replace

from ..harness.spec import Case, Suite, Views
from .quick import FAMILIES, RECIPE

SEEDS = (0, 1, 2)

SUITE = Suite(
    name="learn",
    description="every family's micro trained long on the embedded clips, from three seeds (hours on two CPU cores)",
    cases=tuple(
        Case(
            model=f"{family}/micro",
            recipe=replace(RECIPE, epochs=30, validate_epochs=5),
            views=Views(),
            metrics=("parameters", "flops", "accuracy"),
            seed=seed,
            time_limit=4 * 3600,
        )
        for family in FAMILIES
        for seed in SEEDS
    ),
)
