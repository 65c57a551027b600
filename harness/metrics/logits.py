"""`logits_deviation`: how far a precision or mode moves the logits from those of eager fp32.

The largest absolute difference over the clips and classes, in standard deviations of the fp32 logits: what was lost for
the speed that is measured beside it. With random weights it says how exact the arithmetic is, not what accuracy costs.
"""

from __future__ import annotations

import copy

import torch

from ...result import Metric
from . import Subject

CLIPS = 2


def measure(subject: Subject) -> dict[str, Metric]:
    """Compare the logits of random clips, the same in every case; {} for eager fp32, which there is nothing to hold to.

    The expected logits are computed on the CPU where the fp32 weights have moved there.
    """
    plain = subject.case.precision == "fp32" and subject.case.mode == "eager" and not subject.case.channels_last
    if plain:
        return {}
    generator = torch.Generator().manual_seed(0)
    shape = (subject.case.batch or CLIPS, 3, subject.clip.frames, subject.size, subject.size)
    clip = torch.randn(shape, generator=generator)
    with subject.timer.phase("counting"):
        expected = expected_logits(subject, clip)
    with subject.timer.phase("measured"):
        found = subject.forward(clip.to(subject.device)).float().cpu()
    value = float((found - expected).abs().max() / expected.std())
    convention = f"{subject.convention} against fp32 eager, {len(clip)} random clips"
    return {"logits_deviation": Metric(value=value, unit="σ", convention=convention)}


@torch.inference_mode()
def expected_logits(subject: Subject, clip: torch.Tensor) -> torch.Tensor:
    """Return the logits of the fp32 model, computed on the CPU with a copy where a GPU holds it."""
    model = subject.model
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    return (model if device.type == "cpu" else copy.deepcopy(model).cpu())(clip).float()
