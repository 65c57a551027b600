"""What a test costs beside the model: decoding, the way to the device, waiting. One model a family, for `reference.py`.

reelbench run tests/gpu/overheads.py --data film.parquet --device cuda
"""

from reelbench.spec import Case, Suite
from reelbench.suites._zoo import FLAGSHIPS

SUITE = Suite(
    name="overheads",
    description="one model a family by its published views: decoding, both together, the parts of a training step",
    cases=tuple(
        Case(
            model=model,
            precision="bf16",
            metrics=("parameters", "throughput", "decode", "end_to_end", "train_step"),
            workers=8,
            time_limit=600,
        )
        for model in FLAGSHIPS
    ),
)
