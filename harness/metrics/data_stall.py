"""`data_wait_fraction`, `step_ms`, `train_clips_s`: of the training's time, what the accelerator waited for data.

Read from the training's own record: each step keeps its wait apart from its compute.
"""

from __future__ import annotations

from ...result import Metric
from ..measuring import timing
from . import Subject

WARM_UP = 5


def measure(subject: Subject) -> dict[str, Metric]:
    """Summarize the training's steps, the first few left out; nothing where nothing was trained."""
    steps = subject.train_log[WARM_UP:]
    if not steps or subject.case.recipe is None:
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
