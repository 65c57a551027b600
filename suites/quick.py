"""Every family's `micro`, trained on the built-in synthetic set and measured: minutes on a laptop without a GPU."""

from ..spec import Case, Recipe, Suite, Views

FAMILIES = ("tsm", "video_swin", "tps", "dualformer", "timesformer", "vivit", "mvit")

RECIPE = Recipe(
    epochs=6,
    batch=16,
    lr=1e-3,
    weight_decay=0.05,
    warmup_epochs=0.5,
    warmup_ratio=0.01,
    clip_grad=1.0,
    crop="center",
    flip=0.0,  # a mirrored `left` is a `right`
    validate_epochs=6,
)

SUITE = Suite(
    name="quick",
    description="every family's micro, trained and measured on the built-in synthetic set (minutes on two CPU cores)",
    cases=tuple(
        Case(
            model=f"{family}/micro",
            recipe=RECIPE,
            views=Views(),
            metrics=(
                "parameters", "flops", "memory", "latency", "throughput", "energy", "decode", "data_stall", "accuracy",
            ),
            time_limit=600,
        )
        for family in FAMILIES
    ),
)  # fmt: skip
