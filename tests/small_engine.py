"""A small network in DeepSpeed's engine, and steps of it: what the tests of the engine share."""

from __future__ import annotations

import torch
from reelbench.harness.training import ds_config, engine, losses
from reelbench.spec import Recipe

RECIPE = Recipe(batch=4, lr=0.1, optimizer="sgd", weight_decay=0.01, clip_grad=0.5)


def network() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Flatten(),
        torch.nn.Linear(6, 16),
        torch.nn.BatchNorm1d(16),
        torch.nn.Dropout(0.5),
        torch.nn.Linear(16, 3),
    )


def make(world: engine.World, recipe: Recipe = RECIPE, **options) -> engine.Engine:
    settings = ds_config.settings(recipe, micro_batch=recipe.batch // recipe.accumulate, **options)
    return engine.Engine(losses.Classify(network(), recipe, 3), recipe, world, settings)


def batches(step: int, recipe: Recipe = RECIPE) -> list[tuple]:
    generator = torch.Generator().manual_seed(step)
    count = recipe.batch // recipe.accumulate
    return [
        (
            torch.randn(count, 3, 2, 1, 1, generator=generator),
            torch.randint(0, 3, (count,), generator=generator),
            losses.Draw(0, step, tuple(range(count))),
        )
        for _ in range(recipe.accumulate)
    ]


def take(made: engine.Engine, step: int, recipe: Recipe = RECIPE) -> engine.Step:
    torch.manual_seed(step)
    return made.train_step(batches(step, recipe), lr=recipe.lr, weight_decay=recipe.weight_decay)


def weights(made: engine.Engine) -> torch.Tensor:
    """What this rank keeps of the parameters (ZeRO 3 leaves a slice), and the batch norm's statistics."""
    shares = [getattr(p, "ds_tensor", p) for p in made.network.parameters()]
    return torch.cat([t.detach().flatten() for t in (*shares, made.network[2].running_mean)])
