"""`quick` with ten seeds, top-1 alone: that every family learns whatever the seed. See tests/quick_seeds.py."""

from dataclasses import replace

from ..spec import Suite
from .quick import SUITE as QUICK

SEEDS = range(10)

SUITE = Suite(
    name="quick_seeds",
    description="the trainings of quick with ten seeds, top-1 alone: an hour or two on two cores",
    cases=tuple(
        replace(case, metrics=("parameters", "accuracy"), seed=seed)
        for seed in SEEDS  # seeds outermost: an interrupted run has every family
        for case in QUICK.cases
    ),
)
