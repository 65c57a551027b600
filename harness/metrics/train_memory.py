"""`train_memory_mib`, `train_memory_checkpointed_mib`: peak memory of a training step, without and with checkpointing.

On a GPU it is the allocator's peak, on a CPU the peak resident set, libraries included. The step is that of
`train_step`: forward, backward, AdamW. Checkpointed, activations are computed twice instead of kept; models that lack
it have no such number.
"""

from __future__ import annotations

import torch
from torch import nn

from ...result import Metric
from ..measuring import execution, timing
from . import Subject
from .memory import MIB, reset_resident_peak, resident_peak
from .train_step import BATCH, TRAINED, arithmetic, loss, trainee

SWITCH = "checkpoint_activations"  # what a module of the zoo calls it


def measure(subject: Subject) -> dict[str, Metric]:
    """Take two steps, the first of which makes the optimizer's state, and read the peak of the second.

    Returns {} for inference-only precisions.
    """
    if subject.case.precision not in TRAINED:
        return {}
    execution.set_up(subject.case.precision, "eager", subject.device)
    batch = subject.case.batch or BATCH
    convention = f"training step, batch {batch}, {arithmetic(subject.case.precision)}, eager, AdamW"
    found: dict[str, Metric] = {}
    # The smaller one first: what a process has once used it may keep.
    for checkpointed in (True, False):
        peak = _peak(subject, batch, checkpointed)
        name = "train_memory_checkpointed_mib" if checkpointed else "train_memory_mib"
        if peak is not None:
            found[name] = Metric(value=peak, unit="MiB", convention=convention)
    return found


def _peak(subject: Subject, batch: int, checkpointed: bool) -> float | None:
    """Return the peak in MiB; None if the model cannot checkpoint or the system does not say."""
    model, optimizer = trainee(subject)
    blocks = [module for module in model.modules() if hasattr(module, SWITCH)]
    if checkpointed and not blocks:
        return None
    for block in blocks:
        setattr(block, SWITCH, checkpointed)
    size = subject.clip.size
    clip = torch.randn(batch, 3, subject.clip.frames, size, size, device=subject.device)
    with subject.timer.phase("warm_up"):
        _step(subject, model, optimizer, clip)
    _reset(subject.device)
    with subject.timer.phase("measured"):
        _step(subject, model, optimizer, clip)
    on_card = subject.device.type == "cuda"
    return torch.cuda.max_memory_allocated(subject.device) / MIB if on_card else resident_peak()


def _step(subject: Subject, model: nn.Module, optimizer: torch.optim.Optimizer, clip: torch.Tensor) -> None:
    loss(subject, model, clip).backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    timing.synchronize(subject.device)


def _reset(device: torch.device) -> None:
    reset_resident_peak()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
