"""Every family's `micro`, trained on the built-in synthetic set and measured: minutes on a laptop without a GPU."""

from dataclasses import replace

from ..spec import Case, Recipe, Suite, Views

FAMILIES = ("tsm", "video_swin", "tps", "dualformer", "timesformer", "vivit", "mvit")

RECIPE = Recipe(
    epochs=1.5,
    batch=16,
    lr=1e-3,
    weight_decay=0.05,
    warmup_epochs=0.25,
    warmup_ratio=0.01,
    clip_grad=1.0,
    crop="center",
    flip=0.5,  # the index swaps the labels of what is mirrored
    validate_epochs=1.5,
)

# Where attention stays within a frame, or takes frames and time in turn, a model bears twice the rate and leaves chance
# later: TimeSformer after some 300 steps, as a patch is of one frame, so that only attention compares two.
IN_TURN = replace(RECIPE, lr=2e-3, betas=(0.9, 0.95), epochs=3, validate_epochs=3)
RECIPES = dict.fromkeys(FAMILIES, RECIPE) | {
    "tps": IN_TURN,
    "timesformer": IN_TURN,
    "vivit": replace(IN_TURN, epochs=2, validate_epochs=2),
}

SUITE = Suite(
    name="quick",
    description="every family's micro, trained and measured on the built-in synthetic set (minutes on two CPU cores)",
    cases=tuple(
        Case(
            model=f"{family}/micro",
            recipe=recipe,
            views=Views(),
            metrics=(
                "parameters", "flops", "memory", "latency", "throughput", "energy", "decode", "data_stall", "accuracy",
            ),
            time_limit=600,
        )
        for family, recipe in RECIPES.items()
    ),
)  # fmt: skip
