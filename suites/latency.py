"""The whole zoo at its published input: latency with its percentiles, the batch sweep, energy and memory."""

from ..spec import Case, Suite
from ._zoo import ZOO

SUITE = Suite(
    name="latency",
    description="the whole zoo at its published input: latency, batch sweep, memory, energy (no training)",
    cases=tuple(
        Case(
            model=model,
            metrics=("startup", "parameters", "flops", "memory", "latency", "throughput", "energy"),
            time_limit=1800,
        )
        for model in ZOO
    ),
)
