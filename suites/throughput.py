"""What a model handles a second: alone at its best batch, fed from encoded files, and in a training step.

On a CPU in fp32; on a GPU also in bf16, compiled, and as a CUDA graph, where a training step is the eager one's.
"""

from dataclasses import replace

from ..spec import Case, Suite
from ._ways import on_cuda
from ._zoo import ZOO

PLAIN = tuple(
    Case(
        model=model,
        metrics=("parameters", "flops", "throughput", "peak", "decode", "end_to_end", "step", "memory"),
        time_limit=1800,
    )
    for model in ZOO
)
FED = ("throughput", "peak", "end_to_end", "memory")

SUITE = Suite(
    name="throughput",
    description="the whole zoo: clips/s alone and decode included, what limits it, the parts of a training step",
    cases=PLAIN,
    on_cuda=tuple(
        replace(way, metrics=(*FED, "step") if way.mode == "eager" else FED) for case in PLAIN for way in on_cuda(case)
    ),
)
