"""Learning-rate and weight-decay schedules as pure functions of the step, and optimizer parameter groups."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Any

from torch import nn

from ...spec import Recipe


def total_steps(recipe: Recipe, videos: int) -> int:
    """Return the optimizer steps of a whole run: `epochs` times the full batches of an epoch, rounded, at least 1.

    An epoch's incomplete last batch is dropped.
    """
    return max(1, round(recipe.epochs * (videos // recipe.batch)))


def factor(recipe: Recipe, step: int, steps_per_epoch: int) -> float:
    """Return the factor on the base learning rate at an optimizer step (0-based), warm-up included.

    See `Recipe` for the schedules.
    """
    epoch = step / steps_per_epoch
    regular = _regular(recipe, epoch if recipe.schedule_by == "step" else math.floor(epoch))
    if epoch >= recipe.warmup_epochs:
        return regular
    if recipe.warmup_by == "step":
        return regular * _between(recipe.warmup_ratio, 1, epoch / recipe.warmup_epochs)
    if recipe.warmup_epochs <= 1:
        return 1.0
    return _between(recipe.warmup_ratio, 1, math.floor(epoch) / (recipe.warmup_epochs - 1))


def _regular(recipe: Recipe, epoch: float) -> float:
    if recipe.schedule == "constant":
        return 1.0
    if recipe.schedule == "step":
        return 0.1 ** sum(epoch >= m for m in recipe.milestones)
    return _between(recipe.min_lr / recipe.lr, 1, _half_cosine(_progress(recipe, epoch)))


def _progress(recipe: Recipe, epoch: float) -> float:
    """Return the cosine schedule's progress, 0..1."""
    warmup = recipe.warmup_epochs
    if recipe.schedule_by == "epoch" and recipe.warmup_by == "step":
        return epoch / recipe.epochs
    if recipe.schedule_by == "epoch":
        epoch += 1  # the official runs step their scheduler once before the first epoch
    return max(0.0, epoch - warmup) / max(recipe.epochs - warmup, 1e-9)


def _half_cosine(progress: float) -> float:
    return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def _between(low: float, high: float, share: float) -> float:
    return low + (high - low) * share


def weight_decay(recipe: Recipe, step: int, steps_per_epoch: int) -> float:
    """Return the base weight decay at an optimizer step (0-based), before the groups' multipliers.

    Constant, or with `weight_decay_end` a cosine to it, updated every epoch.
    """
    if recipe.weight_decay_end is None:
        return recipe.weight_decay
    return _between(recipe.weight_decay_end, recipe.weight_decay, _half_cosine(step // steps_per_epoch / recipe.epochs))


def parameter_groups(model: nn.Module, recipe: Recipe) -> list[dict[str, Any]]:
    """Return optimizer groups of the trainable parameters, one per pair of learning-rate and decay multipliers.

    The recipe's rules match parameter names, the first match wins. Without a matching decay rule, one-dimensional
    parameters (norms and biases) are excluded from weight decay. Groups hold their multipliers as `lr_scale` and
    `decay_scale`.
    """
    groups: dict[tuple[float, float], dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        scale = _first(recipe.lr_rules, name, 1.0)
        decay = _first(recipe.decay_rules, name, 0.0 if parameter.ndim <= 1 else 1.0)
        values = {
            "params": [], "lr_scale": scale, "lr": recipe.lr * scale,
            "decay_scale": decay, "weight_decay": recipe.weight_decay * decay,
        }  # fmt: skip
        groups.setdefault((scale, decay), values)["params"].append(parameter)
    return list(groups.values())


def _first(rules: Iterable[tuple[str, float]], name: str, default: float) -> float:
    return next((value for pattern, value in rules if re.search(pattern, name)), default)
