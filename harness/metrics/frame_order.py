"""`top1_reversed`, `top1_shuffled`: top-1 with the frames of every clip reversed, or shuffled.

A model whose accuracy does not drop ignores frame order (D.-A. Huang and others, "What makes a video a video", CVPR
2018). The shuffle is one permutation, drawn from the case's seed; views and videos are those of `top1`. For a data
set with another primary metric they are `map_reversed`, `mean_class_accuracy_reversed` and so on.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ...result import Metric
from ..measuring.accuracy import scores
from . import Subject


def measure(subject: Subject) -> dict[str, Metric]:
    """Test every video under each frame order; returns {} for clips of one frame."""
    frames = subject.clip.frames
    if frames < 2:
        return {}
    orders = {"reversed": torch.arange(frames).flip(0), "shuffled": shuffled(frames, subject.case.seed)}
    return dict(_ordered(subject, order, name) for name, order in orders.items())


def shuffled(frames: int, seed: int) -> Tensor:
    """Return a random permutation of T frames that is neither the identity nor the reversal, unless T < 3."""
    generator = torch.Generator().manual_seed(seed)
    straight = torch.arange(frames)
    while True:
        order = torch.randperm(frames, generator=generator)
        if frames < 3 or not (torch.equal(order, straight) or torch.equal(order, straight.flip(0))):
            return order


def _ordered(subject: Subject, order: Tensor, name: str) -> tuple[str, Metric]:
    def forward(clip: Tensor) -> Tensor:
        return subject.forward(clip[:, :, order.to(clip.device)])  # N C T H W

    predictions = subject.test(f"frame_order, {name}", forward, subject.views)
    found = scores(predictions, subject.num_classes, f"frames {name}, {subject.views}")
    return f"{predictions.main}_{name}", found[predictions.main]
