"""Checkpoints tested under their own protocol: accuracy, sensitivity to frame order, accuracy against cost per video.

    REELBENCH_CHECKPOINTS=~/weights reelbench run accuracy --data k400_val.parquet

looks for `~/weights/video_swin_t.pth` and so on: the address with `_` for `/`, any suffix. A model without a file gets
the status `unsupported`.
"""

from ..spec import Case, Suite
from ._zoo import ZOO

SUITE = Suite(
    name="accuracy",
    description="the checkpoints in $REELBENCH_CHECKPOINTS on --data: accuracy, frame order, accuracy per view budget",
    cases=tuple(
        Case(
            model=model,
            checkpoint=f"$REELBENCH_CHECKPOINTS/{model.replace('/', '_')}.*",
            metrics=("parameters", "flops", "accuracy", "frame_order", "view_budget", "latency", "energy"),
            time_limit=24 * 3600,
        )
        for model in ZOO
    ),
)
