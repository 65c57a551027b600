"""What a model handles a second: alone at its best batch, fed from encoded files, and in a training step."""

from ..spec import Case, Suite
from ._zoo import ZOO

SUITE = Suite(
    name="throughput",
    description="the whole zoo: clips/s alone and decode included, what limits it, the parts of a training step",
    cases=tuple(
        Case(
            model=model,
            metrics=("parameters", "flops", "throughput", "peak", "decode", "end_to_end", "step", "memory"),
            time_limit=1800,
        )
        for model in ZOO
    ),
)
