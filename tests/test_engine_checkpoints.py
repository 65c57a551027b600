"""The engine's checkpoints in a world of one: what is resumed, converted, refused, and never picked up."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from reelbench.errors import UserError
from reelbench.harness.training import checkpoints, ds_config, engine, losses
from reelbench.harness.training.ema import Ema
from reelbench.spec import Recipe

from .small_engine import RECIPE, make, network, take, weights


def test_a_resumed_run_draws_the_same_dropout_and_averages(world, tmp_path):
    made = make(world)
    ema = Ema(made.network, 0.9)
    found = []
    for step in range(4):
        found.append(take(made, step).loss)
        ema.update()
        if step == 1:
            made.save(tmp_path, 2, {"step": 2}, keep=2, ema=ema)
    again = make(world)
    other = Ema(again.network, 0.9)
    assert again.resume(tmp_path / "step_2", ema=other)["step"] == 2
    assert [take(again, step).loss for step in (2, 3)] == found[2:]
    for _ in range(2):
        other.update()
    assert torch.equal(weights(again), weights(made))


def test_a_half_written_checkpoint_is_never_picked_up(world, tmp_path):
    made = make(world)
    for step in range(1, 5):
        take(made, step)
        made.save(tmp_path, step, {"step": step}, keep=2)
    assert sorted(p.name for p in tmp_path.glob("step_*")) == ["step_3", "step_4"]
    torn = tmp_path / "step_7"  # killed while it was written
    shutil.copytree(tmp_path / "step_4", torn, ignore=shutil.ignore_patterns(checkpoints.STATE))
    next(torn.glob("*.pt")).write_bytes(b"half")
    assert checkpoints.newest(tmp_path).name == "step_4"
    again = make(world)
    assert again.resume(checkpoints.newest(tmp_path))["step"] == 4
    again.save(tmp_path, 5, {"step": 5}, keep=2)
    assert sorted(p.name for p in tmp_path.glob("step_*")) == ["step_4", "step_5"]
    (tmp_path / "step_5" / checkpoints.STATE).unlink()  # killed while it was written once more
    assert checkpoints.newest(tmp_path).name == "step_4"
    (tmp_path / "step_4" / checkpoints.STATE).unlink()
    with pytest.raises(UserError, match="nothing to resume"):
        checkpoints.newest(tmp_path)


def test_a_checkpoint_of_the_same_world_needs_no_conversion(world, tmp_path: Path):
    made = make(world)
    made.save(tmp_path, 1, {"step": 1}, keep=1)
    assert engine.convert_for(tmp_path / "step_1", made.engine.module, RECIPE, world) is False


def resumed(world: engine.World, tag: Path, recipe: Recipe, ema: float = 0.0) -> tuple[engine.Engine, Ema | None]:
    """Resume a checkpoint in a new engine, as a training does."""
    objective = losses.Classify(network(), recipe, 3)
    converted = engine.convert_for(tag, objective, recipe, world)
    settings = ds_config.settings(recipe, micro_batch=recipe.batch, universal=converted and recipe.zero > 0)
    again = engine.Engine(objective, recipe, world, settings)
    averages = Ema(again.network, ema) if ema else None
    again.resume(tag, converted=converted, ema=averages)
    return again, averages


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize(("before", "after"), [(0, 1), (0, 2), (0, 3), (1, 0), (2, 1), (2, 3), (3, 0), (3, 2)])
def test_another_zero_stage_takes_the_same_steps(world, tmp_path, before, after, optimizer):
    """Weights, optimizer's state, batch norm's statistics and averages go over."""
    recipes = [Recipe(**{**vars(RECIPE), "zero": zero, "optimizer": optimizer, "ema": 0.5}) for zero in (before, after)]
    made = make(world, recipes[0])
    ema = Ema(made.network, 0.5)
    for step in (0, 1):
        take(made, step, recipes[0])
        ema.update()
    made.save(tmp_path, 2, {"step": 2}, keep=1, ema=ema)
    if (after, optimizer) == (3, "sgd"):
        with pytest.raises(UserError, match="resume with --zero 0, 1 or 2"):
            resumed(world, tmp_path / "step_2", recipes[1])
        return
    again, averages = resumed(world, tmp_path / "step_2", recipes[1], ema=0.5)
    assert averages is not None
    assert all(torch.equal(a.flatten(), b.flatten()) for a, b in zip(averages.averages, ema.averages, strict=True))
    assert torch.equal(weights(again), weights(made))
    for step in (2, 3):
        a, b = take(again, step, recipes[1]), take(made, step, recipes[0])
        assert a.loss == pytest.approx(b.loss, rel=1e-5)
        assert a.grad_norm == pytest.approx(b.grad_norm, rel=1e-4)


def test_averages_that_are_new_start_from_the_weights(world, tmp_path):
    made = make(world)
    take(made, 0)
    made.save(tmp_path, 1, {"step": 1}, keep=1)
    again, averages = resumed(world, tmp_path / "step_1", RECIPE, ema=0.5)
    assert averages is not None
    for average, parameter in zip(averages.averages, again.network.parameters(), strict=True):
        assert torch.equal(average, parameter.detach())


def test_a_checkpoint_of_another_network_is_refused_in_one_line(world, tmp_path):
    made = make(world)
    made.save(tmp_path, 1, {"step": 1}, keep=1)
    other = engine.Engine(
        losses.Classify(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(6, 3)), RECIPE, 3),
        RECIPE,
        world,
        ds_config.settings(RECIPE, micro_batch=4),
    )
    with pytest.raises(UserError, match="step_1 does not fit this job: ") as caught:
        other.resume(tmp_path / "step_1")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("zero", [0, 2])
def test_a_full_disk_leaves_the_older_checkpoint(world, tmp_path, monkeypatch, zero):
    recipe = Recipe(**{**vars(RECIPE), "zero": zero})
    made = make(world, recipe)
    take(made, 0, recipe)
    made.save(tmp_path, 1, {"step": 1}, keep=1)
    take(made, 1, recipe)

    def full(value: object, file) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(torch, "save", full)
        with pytest.raises(UserError, match=r"No space left on device: what was saved before is whole.*--resume"):
            made.save(tmp_path, 2, {"step": 2}, keep=1)
    assert [p.name for p in tmp_path.glob("step_*")] == ["step_1"]
    assert checkpoints.newest(tmp_path).name == "step_1"
    made.save(tmp_path, 2, {"step": 2}, keep=1)
    assert [p.name for p in tmp_path.glob("step_*")] == ["step_2"]
