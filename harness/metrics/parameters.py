"""`params`: trainable and frozen parameters of the whole model, head included; buffers are not counted."""

from __future__ import annotations

from ...result import Metric
from . import Subject


def measure(subject: Subject) -> dict[str, Metric]:
    """Count the parameters: a plain number, not millions."""
    count = sum(p.numel() for p in subject.model.parameters())
    return {"params": Metric(value=count, unit="", convention=f"{subject.num_classes} classes, head included")}
