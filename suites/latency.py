"""The whole zoo at its published input: latency with its percentiles, the batch sweep, energy and memory.

On a CPU in fp32; on a GPU also in bf16, compiled, and as a CUDA graph.
"""

from ..spec import Case, Suite
from ._configurations import on_cuda
from ._zoo import ZOO

PLAIN = tuple(
    Case(
        model=model,
        metrics=("startup", "parameters", "flops", "memory", "latency", "throughput", "energy"),
        time_limit=1800,
    )
    for model in ZOO
)

SUITE = Suite(
    name="latency",
    description="the whole zoo at its published input: latency, batch sweep, memory, energy (no training)",
    cases=PLAIN,
    on_cuda=tuple(configured for case in PLAIN for configured in on_cuda(case)),
)
