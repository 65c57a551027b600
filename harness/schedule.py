"""The learning rate as a pure function of the step, and parameters grouped by rule."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Any

from torch import nn

from .spec import Recipe


def total_steps(recipe: Recipe, videos: int) -> int:
    """Return the optimiser steps of a whole run; an epoch's incomplete last batch is dropped."""
    return max(1, round(recipe.epochs * (videos // recipe.batch)))


def factor(recipe: Recipe, step: int, steps_per_epoch: int) -> float:
    """Return the multiplier of the base learning rate at an optimiser step (0-based).

    Linear warm-up from `warmup_ratio` to 1, then cosine to `min_lr`, or ×0.1 at each milestone (in epochs).
    """
    warmup = recipe.warmup_epochs * steps_per_epoch
    total = recipe.epochs * steps_per_epoch
    regular = _regular(recipe, step, warmup, total, steps_per_epoch)
    if step >= warmup:
        return regular
    return regular * (1 - (1 - step / warmup) * (1 - recipe.warmup_ratio))


def _regular(recipe: Recipe, step: int, warmup: float, total: float, steps_per_epoch: int) -> float:
    if recipe.schedule == "constant":
        return 1.0
    if recipe.schedule == "step":
        return 0.1 ** sum(step >= m * steps_per_epoch for m in recipe.milestones)
    floor = recipe.min_lr / recipe.lr
    progress = min(1.0, max(0.0, (step - warmup) / max(1.0, total - warmup)))
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress))


def parameter_groups(model: nn.Module, recipe: Recipe) -> list[dict[str, Any]]:
    """Return optimiser groups: equal learning-rate and decay multipliers together, in order of first appearance.

    The recipe's rules match parameter names, the first match wins. Without a decay rule, tensors of one dimension
    (norms and biases) are not decayed.
    """
    groups: dict[tuple[float, float], dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        scale = _first(recipe.lr_rules, name, 1.0)
        decay = _first(recipe.decay_rules, name, 0.0 if parameter.ndim <= 1 else 1.0)
        values = {"params": [], "lr_scale": scale, "lr": recipe.lr * scale, "weight_decay": recipe.weight_decay * decay}
        groups.setdefault((scale, decay), values)["params"].append(parameter)
    return list(groups.values())


def _first(rules: Iterable[tuple[str, float]], name: str, default: float) -> float:
    return next((value for pattern, value in rules if re.search(pattern, name)), default)
