"""One model per family in sixteen combinations of precision, mode and memory format, at batch 8.

The report says where they change the ranking of latencies, and how far each moves the logits.

What a machine cannot run (TF32 or CUDA graphs without a GPU, ONNX Runtime if it is not installed) gets the status
`unsupported`.
"""

from dataclasses import replace

from ..spec import Case, Suite
from ._zoo import FLAGSHIPS

PLAIN = Case(
    model=FLAGSHIPS[0],
    batch=8,
    metrics=("startup", "parameters", "memory", "logits", "latency", "throughput", "energy"),
    time_limit=3600,
)
BF16 = replace(PLAIN, precision="bf16")
CONFIGURATIONS = (
    PLAIN,
    replace(PLAIN, channels_last=True),
    replace(PLAIN, mode="cuda_graphs"),
    replace(PLAIN, mode="compile"),
    replace(PLAIN, precision="tf32"),
    replace(PLAIN, precision="amp_bf16"),
    BF16,
    replace(BF16, mode="cuda_graphs"),
    replace(BF16, mode="compile"),
    replace(BF16, mode="compile_max_autotune"),
    replace(PLAIN, precision="fp16"),
    replace(PLAIN, precision="fp8"),
    replace(PLAIN, precision="int8"),
    replace(PLAIN, mode="aot_inductor"),
    replace(PLAIN, mode="onnxruntime"),
    replace(PLAIN, mode="tensorrt"),
)

SUITE = Suite(
    name="modes",
    description="one model a family in every precision and mode: eager, compiled, exported, CUDA graphs",
    cases=tuple(replace(configuration, model=model) for configuration in CONFIGURATIONS for model in FLAGSHIPS),
)
