"""Throughput of the whole zoo: the model alone at its best batch, fed from encoded files, and in a training step.

On a CPU in fp32; on a GPU also in bf16: eager (with the training step), compiled, and as a CUDA graph.
"""

from dataclasses import replace

from ..spec import Case, Suite
from ._configurations import on_cuda
from ._zoo import ZOO

PLAIN = tuple(
    Case(
        model=model,
        metrics=("parameters", "flops", "throughput", "mfu", "decode", "end_to_end", "train_step", "memory"),
        time_limit=1800,
    )
    for model in ZOO
)
FED = ("throughput", "mfu", "end_to_end", "memory")

SUITE = Suite(
    name="throughput",
    description="the whole zoo: clips/s alone and from encoded files, the bottleneck, the parts of a training step",
    cases=PLAIN,
    on_cuda=tuple(
        replace(configuration, metrics=(*FED, "train_step") if configuration.mode == "eager" else FED)
        for case in PLAIN
        for configuration in on_cuda(case)
    ),
)
