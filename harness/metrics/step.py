"""`forward_ms`, `backward_ms`, `optimizer_ms`: where a training step goes, on one device, data already there.

Waiting for data is apart from it: `stall` reads that from a real training. Plain AdamW, so that models compare; the
batch is the case's, or 2.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import nn

from .. import measure as timing
from ..execution import autocast
from ..result import Metric
from . import Subject

BATCH = 2
TRAINED = ("fp32", "tf32", "bf16", "fp16")


def measure(subject: Subject) -> dict[str, Metric]:
    """Time the three parts of a step, each ended by an idle device; nothing in a precision that trains nothing."""
    if subject.case.precision not in TRAINED:
        return {}
    parts = _steps(subject, subject.case.batch or BATCH)
    convention = f"training step, batch {subject.case.batch or BATCH}, {subject.case.precision}, eager, AdamW"
    return {f"{name}_ms": timing.summary(values, "ms", convention) for name, values in parts.items()}


def _steps(subject: Subject, batch: int) -> dict[str, list[float]]:
    model = copy.deepcopy(subject.model).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.0)  # the weights stay: every step is alike
    clip = subject.example(batch)
    label = torch.zeros(batch, dtype=torch.long, device=subject.device)
    kept: list[torch.Tensor] = []

    def forward() -> None:
        with autocast(subject.device, subject.case.precision):
            kept.append(nn.functional.cross_entropy(model(clip).float(), label))

    def update() -> None:
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    parts: dict[str, Callable[[], object]] = {
        "forward": forward,
        "backward": lambda: kept.pop().backward(),
        "optimizer": update,
    }
    taken: dict[str, list[float]] = {name: [] for name in parts}

    def step() -> None:
        for name, part in parts.items():
            taken[name].append(1e3 * timing.timed(part, subject.device))

    counted = len(subject.time(step).host)
    return {name: values[-counted:] for name, values in taken.items()}
