"""An ablation: one model trained as a base, and then with one thing changed at a time.

    reelbench run examples/ablation.py --out runs/ablation --dry-run
    reelbench run examples/ablation.py --out runs/ablation

The report compares each step with the base: the difference of accuracies on the same videos, and the hours of training.
"""

from reelbench.ablation import Ablation
from reelbench.spec import Case, Clip, Recipe, Suite, Views

BASE = Case(
    model="tsm/micro",
    clip=Clip(frames=8, stride=2, size=32, short_side=32),
    recipe=Recipe(epochs=6, batch=16, lr=1e-3, warmup_epochs=0.5, clip_grad=1.0, crop="center", flip=0.0),
    views=Views(),
    metrics=("parameters", "flops", "latency", "accuracy"),
)

SUITE = Suite(
    name="ablation",
    description="TSM micro: frames, their distance, learning rate and batch, one change at a time",
    ablations=(
        Ablation(
            BASE,
            {
                "16 frames": {"frames": 16, "stride": 1},
                "every frame": {"stride": 1},
                "flipped clips": {"flip": 0.5},  # a mirrored `left` is a `right`
                "batch 32": {"recipe.batch": 32},
                "learning rate 3e-4": {"lr": 3e-4},
            },
        ),
    ),
)
