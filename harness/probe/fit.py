"""Train a probe on features: plain torch in one process.

A head of a few million parameters on features that are there needs neither DeepSpeed's sharding nor its collectives;
one GPU, or a CPU, is faster than starting several.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from ...errors import UserError
from ...spec import Recipe
from ..events import Event, Report
from ..measuring.accuracy import evaluate, scores
from ..training import losses, optimizer, run_folder
from ..training.job import Job
from ..training.schedule import factor, total_steps, weight_decay
from .samples import Samples


@dataclass(frozen=True)
class Fitted:
    """The metric of a validation, in percent, and the probe's weights then; without validation `metric` is empty."""

    state: dict[str, Tensor]
    metric: str = ""
    value: float = -1.0


def fit(probe: nn.Module, train: Samples, validation: Samples | None, job: Job, report: Report) -> Fitted:
    """Train a probe, which is on the samples' device, by the job's recipe; return the best weights, or the last.

    A batch larger than the number of samples is lowered to it. Losses and metrics are logged in OUT. Raises UserError
    if a loss is not finite.
    """
    recipe = replace(job.recipe, batch=min(job.recipe.batch, len(train)))
    if hasattr(probe, "set_statistics"):
        probe.set_statistics(*train.statistics())  # type: ignore[operator]
    objective = losses.Classify(probe, recipe, len(train.classes))
    steps = optimizer.build(probe, recipe, fused=False)
    per_epoch, total = len(train) // recipe.batch, total_steps(recipe, len(train))
    interval = max(1, round(recipe.validate_epochs * per_epoch))
    log, best = run_folder.Log(job.out, 0), None
    for step, samples in zip(range(total), _batches(len(train), recipe.batch, job.seed), strict=False):
        begin = time.perf_counter()
        batch = train.batch(samples)
        wait = time.perf_counter() - begin
        lr = _schedule(steps, recipe, step, per_epoch)
        loss = objective(batch.clip, batch.label, losses.Draw(job.seed, step, ()))
        _take(steps, loss, probe, recipe, step)
        row = {"loss": loss.item(), "wait": wait, "compute": time.perf_counter() - begin - wait}
        log.write("train", {"step": step, "epoch": step / per_epoch, "lr": lr, **row})
        report(Event(phase="probe", done=step + 1, total=total))
        if validation is not None and ((step + 1) % interval == 0 or step + 1 == total):
            found = _validated(probe, validation)
            log.write("validation", {"step": step + 1, found.metric: found.value})
            best = found if best is None or found.value > best.value else best
    if log.error:
        raise UserError(log.error)
    return best or Fitted(_state(probe))


def _batches(count: int, batch: int, seed: int) -> Iterator[Tensor]:
    """Yield the samples of full batches, shuffled anew in every epoch, without end."""
    epoch = 0
    while True:
        order = torch.randperm(count, generator=torch.Generator().manual_seed(seed * 1_000_003 + epoch))
        yield from order[: count // batch * batch].split(batch)
        epoch += 1


def _schedule(steps: torch.optim.Optimizer, recipe: Recipe, step: int, per_epoch: int) -> float:
    """Set and return the learning rate of a step, and set its weight decay."""
    lr, decay = recipe.lr * factor(recipe, step, per_epoch), weight_decay(recipe, step, per_epoch)
    for group in steps.param_groups:
        group["lr"], group["weight_decay"] = lr * group["lr_scale"], decay * group["decay_scale"]
    return lr


def _take(steps: torch.optim.Optimizer, loss: Tensor, probe: nn.Module, recipe: Recipe, step: int) -> None:
    if not math.isfinite(loss.item()):
        raise UserError(f"step {step + 1}: the probe's loss is not finite: lower --lr")
    steps.zero_grad(set_to_none=True)
    loss.backward()
    if recipe.clip_grad:
        nn.utils.clip_grad_norm_(probe.parameters(), recipe.clip_grad)
    steps.step()


def _validated(probe: nn.Module, validation: Samples) -> Fitted:
    probe.eval()
    predictions = evaluate(probe, validation)
    probe.train()
    name = predictions.main
    return Fitted(_state(probe), name, scores(predictions, len(validation.classes), "1x1")[name].value)


def _state(probe: nn.Module) -> dict[str, Tensor]:
    return copy.deepcopy(probe.state_dict())
