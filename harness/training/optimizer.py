"""The recipe's optimizer, with steps that can be skipped on all ranks at once."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ...spec import Recipe
from .schedule import parameter_groups


class SkippableStep:
    """Optimizer mixin: while `skip_step` is set, step() is a no-op; every rank still enters DeepSpeed's collectives."""

    skip_step = False

    def step(self, closure: Any = None) -> Any:
        """Take the optimizer's step unless it is to be skipped."""
        return None if self.skip_step else super().step(closure)  # type: ignore[misc]


class _AdamW(SkippableStep, torch.optim.AdamW):
    pass


class _SGD(SkippableStep, torch.optim.SGD):
    pass


def build(network: nn.Module, recipe: Recipe, *, fused: bool) -> _AdamW | _SGD:
    """Return the recipe's optimizer over the network's parameter groups; `fused` uses torch's fused kernels."""
    groups = parameter_groups(network, recipe)
    if recipe.optimizer == "sgd":
        return _SGD(groups, lr=recipe.lr, momentum=recipe.momentum, nesterov=recipe.nesterov, fused=fused)
    return _AdamW(groups, lr=recipe.lr, betas=recipe.betas, fused=fused)
