"""Ours in bf16 beside the libraries' ports of the same architectures, as their users run them: in fp16, eager.

reelbench run tests/gpu/official.py --device cuda
"""

from dataclasses import replace
from pathlib import Path

from reelbench.spec import Case, Suite

HERE = Path(__file__).resolve().parent / "official"
# transformers' ViViT attends jointly.
PAIRS = {
    "video_swin/t": "torchvision:swin3d_t",
    "mvit/b_16x4": "torchvision:mvit_v1_b",
    "timesformer/b": f"hf:{HERE / 'timesformer'}",
    "vivit/b_joint": f"hf:{HERE / 'vivit'}",
}


CASE = Case(model="", precision="bf16", metrics=("latency", "throughput"), time_limit=600)
MODES = ("eager", "cuda_graphs", "compile")

SUITE = Suite(
    name="official",
    description="four families in bf16 beside the ports of torchvision and transformers in fp16",
    cases=(
        *(replace(CASE, model=theirs, precision="fp16") for theirs in PAIRS.values()),
        *(replace(CASE, model=ours, mode=mode) for mode in MODES for ours in PAIRS),
    ),
)
