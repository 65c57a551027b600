"""One file a metric. Each offers `measure(subject) -> dict[str, Metric]`, and is found by its file name.

A `Subject` is everything a metric may look at. A metric that this machine cannot measure returns `{}`: a number is
measured or it is not printed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from .. import discover
from ..measure import Budget
from ..result import Metric
from ..spec import Case, Clip, Views


@dataclass(kw_only=True)
class Subject:
    """A model ready to be measured: in eval mode, on its device, with the way to open its data.

    `open_stream` opens the test split of `videos` videos (see `pipelines.open`); `train_log` is the training's record
    a step. `budget` bounds each timing loop. Metrics share what they found in `notes`, which the result keeps.
    """

    model: nn.Module
    case: Case
    clip: Clip
    views: Views
    device: torch.device
    num_classes: int
    videos: int
    open_stream: Callable[..., Any]
    train_log: list[dict[str, float]] = field(default_factory=list)
    budget: Budget = Budget()
    notes: dict[str, Any] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Pixels of the side of a test view."""
        return self.views.size or self.clip.size

    def example(self, batch: int) -> Tensor:
        """Return random clips, N×3×T×H×W float32 on the subject's device."""
        return torch.randn(batch, 3, self.clip.frames, self.size, self.size, device=self.device)

    def forward(self, clip: Tensor) -> Tensor:
        """Return logits N×classes under the case's precision, without gradients."""
        with torch.inference_mode(), autocast(self.device, self.case.precision):
            return self.model(clip)


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Return the autocast region of a precision; `fp32` is a disabled one."""
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision)
    return torch.autocast(device.type, dtype=dtype, enabled=dtype is not None)


def measure(subject: Subject, report: Callable[[str], None]) -> Mapping[str, Metric]:
    """Measure every metric of the case, in the case's order; `report` is told each one's name as it starts."""
    found: dict[str, Metric] = {}
    for name in subject.case.metrics:
        report(name)
        found.update(discover.module("harness.metrics", name, "metric").measure(subject))
    return found
