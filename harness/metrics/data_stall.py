"""`data_wait_fraction`, `step_ms`, `train_clips_s`: training speed, waits included, and the waits' share.

`data_wait_fraction` is the fraction (0..1) of the time of all steps that was spent waiting for data.

Read from the training log, which records each step's wait and compute time separately.
"""

from __future__ import annotations

from ...result import Metric
from ..measuring import timing
from . import Subject

WARM_UP = 5


def measure(subject: Subject) -> dict[str, Metric]:
    """Summarize the training steps after the first `WARM_UP`; returns {} if none is left, or without a recipe."""
    steps = subject.train_log[WARM_UP:]
    if not steps or subject.case.recipe is None or subject.case.probe is not None:
        return {}
    wait = sum(s["wait"] for s in steps)
    total = sum(s["wait"] + s["compute"] for s in steps)
    batch, recipe = subject.case.recipe.batch, subject.case.recipe
    convention = f"training, global batch {batch}, {recipe.precision}, {subject.case.ranks} ranks"
    seconds = [s["wait"] + s["compute"] for s in steps]
    return {
        "data_wait_fraction": Metric(value=wait / total, unit="", convention=convention),
        "step_ms": timing.summary([s * 1e3 for s in seconds], "ms", convention),
        "train_clips_s": timing.summary([batch / s for s in seconds], "clips/s", convention),
    }
