"""The published models at their published input: latency, throughput, memory and decoding on any index."""

from ..harness.spec import Case, Suite

MODELS = ("tsm/r50_8f", "video_swin/t")

SUITE = Suite(
    name="latency",
    description="published models at their published input: latency, throughput, memory, decode rate (no training)",
    cases=tuple(
        Case(
            model=model,
            metrics=("parameters", "flops", "memory", "latency", "throughput", "energy", "decode"),
            time_limit=1800,
        )
        for model in MODELS
    ),
)
