"""`wait_ms`, `forward_ms`, `backward_ms`, `optimizer_ms`: the parts of a training step on one device.

Batches come from the case's videos with the recipe's augmentation, as in `reelbench train`; the wait is the decoding
time that the previous step did not hide. It is a mean, because batches arrive in bursts; the other three are medians.
If the index has fewer videos than a batch, random clips are used and there is no wait. The optimizer is always AdamW,
so that models compare; the batch is the case's, or 2. `data_stall` reports the waits of a real training run instead.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import fmean

import torch
from torch import Tensor, nn

from ...result import Metric
from ..measuring import execution, timing
from . import Subject

BATCH = 2
RANDOM = "random clips"
TRAINED = ("fp32", "tf32", "bf16", "fp16", "amp_bf16", "amp_fp16")


def measure(subject: Subject) -> dict[str, Metric]:
    """Time the parts of a step, each ended by a synchronization; returns {} for inference-only precisions."""
    if subject.case.precision not in TRAINED:
        return {}
    execution.set_up(subject.case.precision, "eager", subject.device)
    batch = subject.case.batch or BATCH
    with _clips(subject, batch) as (clips, fed):
        parts = _steps(subject, clips)
    convention = f"training step, batch {batch}, {arithmetic(subject.case.precision)}, eager, AdamW, {fed}"
    waits = parts.pop("wait")
    found = {f"{name}_ms": timing.summary(values, "ms", convention) for name, values in parts.items()}
    if fed == RANDOM:
        return found
    mean_convention = f"{convention}, mean: batches come in bursts"
    return {"wait_ms": Metric(value=fmean(waits), unit="ms", samples=tuple(waits), convention=mean_convention), **found}


@contextmanager
def _clips(subject: Subject, batch: int) -> Iterator[tuple[Iterator[Tensor], str]]:
    """Yield an endless iterator of training clips, N×3×T×H×W, and a description of their source."""
    if subject.open_training is None or subject.videos < batch:
        size = subject.clip.size
        clip = torch.randn(batch, 3, subject.clip.frames, size, size, device=subject.device)
        yield itertools.repeat(clip), RANDOM
        return
    with subject.open_training(batch) as stream:
        clips = (found.clip for _ in itertools.count() for found in stream.epoch())
        with subject.timer.phase("start"):
            next(clips)
        yield clips, f"fed by the {stream.decoder} decoder, {subject.case.workers} workers"


def arithmetic(precision: str) -> str:
    """Return the training precision as text: weights stay in fp32, so half precision is autocast."""
    half = precision.removeprefix("amp_")
    return precision if half in ("fp32", "tf32") else f"{half} autocast"


def trainee(subject: Subject) -> tuple[nn.Module, torch.optim.Optimizer]:
    """Return a copy of the model in training mode on the subject's device, and its optimizer, which changes nothing."""
    # `prepare` moves the fp32 original to the CPU if it casts.
    model = copy.deepcopy(subject.model).to(subject.device).train()
    return model, torch.optim.AdamW(model.parameters(), lr=0.0)


def loss(subject: Subject, model: nn.Module, clip: Tensor) -> Tensor:
    """Return the loss of a clip N×3×T×H×W in the case's precision."""
    label = torch.zeros(len(clip), dtype=torch.long, device=subject.device)
    with execution.training(subject.device, subject.case.precision):
        return nn.functional.cross_entropy(model(clip).float(), label)


def _steps(subject: Subject, clips: Iterator[Tensor]) -> dict[str, list[float]]:
    """Return the milliseconds of each part, one sample per step."""
    model, optimizer = trainee(subject)
    kept: list[Tensor] = []

    def update() -> None:
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    parts: dict[str, Callable[[], object]] = {
        "wait": lambda: kept.append(next(clips)),
        "forward": lambda: kept.append(loss(subject, model, kept.pop())),
        "backward": lambda: kept.pop().backward(),
        "optimizer": update,
    }
    taken: dict[str, list[float]] = {name: [] for name in parts}

    def step() -> None:
        for name, part in parts.items():
            taken[name].append(1e3 * timing.timed(part, subject.device))

    counted = len(subject.time(step).host)
    return {name: values[-counted:] for name, values in taken.items()}
