"""DeepSpeed's engine in this very process, a world of one: what a step does, what a checkpoint holds."""

from __future__ import annotations

import math

import pytest
import torch
from reelbench.harness.training import ds_config, engine, losses, saved_weights
from reelbench.harness.training.ema import Ema
from reelbench.spec import Recipe
from safetensors.torch import load_file

from .small_engine import RECIPE, batches, make, network, take, weights


def test_a_step_is_that_of_torch_and_its_gradient_norm_is_known(world):
    made, plain = make(world), network()
    found = take(made, 0)
    torch.manual_seed(0)
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.1, momentum=0.9)
    clip, label, _ = batches(0)[0]
    loss = torch.nn.functional.cross_entropy(plain(clip), label)
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(plain.parameters(), 0.5)
    for parameter in plain.parameters():
        if parameter.ndim > 1:  # the default rule: one dimension, no decay
            parameter.grad += 0.01 * parameter.detach()
    optimizer.step()
    assert found.loss == pytest.approx(float(loss.detach()))
    assert found.grad_norm == pytest.approx(float(norm), rel=1e-5)
    for a, b in zip(made.network.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("offload", [False, True])
@pytest.mark.parametrize("zero", [1, 2, 3])
def test_zero_takes_the_same_steps(world, zero, offload):
    expected, recipe = make(world), Recipe(**{**vars(RECIPE), "zero": zero, "accumulate": 1})
    made = make(world, recipe, offload=offload)
    for step in range(3):
        a, b = take(expected, step), take(made, step, recipe)
        assert a.loss == pytest.approx(b.loss, rel=1e-6)
        assert a.grad_norm == pytest.approx(b.grad_norm, rel=1e-4)


@pytest.mark.parametrize(("zero", "accumulate"), [(0, 1), (0, 2), (2, 2), (3, 1)])
def test_a_loss_that_is_not_finite_changes_no_weight(world, zero, accumulate):
    recipe = Recipe(**{**vars(RECIPE), "zero": zero, "accumulate": accumulate})
    made = make(world, recipe)
    take(made, 0, recipe)
    before = weights(made).clone()
    broken = batches(1, recipe)
    broken[0][0][0] = math.nan
    found = made.train_step(broken, lr=0.1, weight_decay=0.01)
    assert found.skipped
    assert found.grad_norm is None
    assert math.isnan(found.losses[0])
    assert torch.equal(weights(made), before)
    after = take(made, 2, recipe)
    assert not after.skipped
    assert math.isfinite(after.loss)
    assert torch.isfinite(weights(made)).all()
    assert not torch.equal(weights(made), before)


class Cusp(torch.nn.Module):
    """Has the gradient 0/0 at its finite loss, as a norm at zero has, while `sharp` is set."""

    sharp = True

    def __init__(self) -> None:
        super().__init__()
        self.inner = network()

    def forward(self, clip):
        logits = self.inner(clip)
        return logits + (logits.sum() * 0).abs().sqrt() if self.sharp else logits


@pytest.mark.parametrize(("zero", "clip_grad"), [(0, 0.5), (0, 0.0), (1, 0.5), (2, 0.0), (3, 0.5)])
def test_a_gradient_that_is_not_finite_changes_no_weight(world, zero, clip_grad):
    recipe = Recipe(**{**vars(RECIPE), "zero": zero, "clip_grad": clip_grad})
    settings = ds_config.settings(recipe, micro_batch=4)
    made = engine.Engine(losses.Classify(Cusp(), recipe, 3), recipe, world, settings)
    before = [tensor.detach().clone() for tensor in (*shares(made), made.network.inner[2].running_mean)]
    found = take(made, 0, recipe)
    assert math.isfinite(found.loss)
    assert (found.skipped, found.updated, found.grad_norm) == (True, False, None)
    after = (*shares(made), made.network.inner[2].running_mean)
    assert all(torch.equal(a, b) for a, b in zip(after, before, strict=True))
    made.network.sharp = False
    found = take(made, 1, recipe)
    assert (found.skipped, found.updated) == (False, True)
    assert all(torch.isfinite(share).all() for share in shares(made))


def shares(made: engine.Engine) -> list[torch.Tensor]:
    return [getattr(p, "ds_tensor", p) for p in made.network.parameters()]


class Probed(torch.nn.Module):
    """A backbone with everything that a mode changes, and a head with a norm of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = torch.nn.Sequential(*network()[:4])
        self.cls_head = torch.nn.Sequential(torch.nn.BatchNorm1d(16), torch.nn.Dropout(0.5), torch.nn.Linear(16, 3))

    def forward(self, clip):
        return self.cls_head(self.backbone(clip))


@pytest.mark.parametrize("validated", [False, True])
@pytest.mark.parametrize("zero", [0, 1, 2, 3])
def test_a_linear_probe_moves_no_bit_of_what_is_frozen(world, zero, validated, tmp_path):
    torch.manual_seed(0)
    probed = Probed()
    before = {name: value.clone() for name, value in probed.state_dict().items()}
    recipe = Recipe(batch=4, lr=0.1, optimizer="sgd", linear_probe=True, zero=zero, ema=0.5)
    objective = losses.Probe(probed, recipe, 3, ("cls_head.",))
    made = engine.Engine(objective, recipe, world, ds_config.settings(recipe, micro_batch=4))
    ema = Ema(made.network, 0.5)
    for step in range(3):
        take(made, step, recipe)
        ema.update()
        made.average_buffers()
        if validated:
            made.engine.eval()
    made.export(tmp_path / "raw.safetensors")
    with ema.swapped_in():
        made.export(tmp_path / "ema.safetensors")
    for name in ("raw", "ema"):
        found = load_file(tmp_path / f"{name}.safetensors")
        moved = [key for key, value in before.items() if not torch.equal(found[key], value)]
        assert moved == ["cls_head.2.weight", "cls_head.2.bias"]


def test_averaging_over_ranks_keeps_every_bit_of_what_they_share(world, monkeypatch):
    """Three ranks with the same statistics: in single precision a third of the sum is not always what it was."""
    made = make(world)
    statistics = made.network[2].running_mean
    statistics.copy_(torch.rand(16, generator=torch.Generator().manual_seed(0)))
    before = statistics.clone()
    made.world = engine.World(0, 3, world.device)
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda tensor: tensor.copy_(tensor + tensor + tensor))
    made.average_buffers()
    assert torch.equal(statistics, before)


def test_averages_are_lent_to_the_network_and_taken_back(world):
    made = make(world)
    ema = Ema(made.network, 0.75)
    start = weights(made).clone()
    take(made, 0)
    ema.update()
    now = weights(made).clone()
    with ema.swapped_in():
        torch.testing.assert_close(weights(made)[:-16], (0.75 * start + 0.25 * now)[:-16])
    assert torch.equal(weights(made), now)


def test_weights_are_exported_under_the_networks_own_names(world, tmp_path):
    made = make(world)
    made.export(tmp_path / "w.safetensors", without=("4.",))
    found = load_file(tmp_path / "w.safetensors")
    assert set(found) == {k for k in made.network.state_dict() if not k.startswith("4.")}
    assert torch.equal(found["1.weight"], made.network[1].weight)


def test_the_monitor_writes_csv(world, tmp_path):
    made = make(world, monitors=("csv",), folder=tmp_path)
    made.log_scalars({"loss": 1.5, "clips_s": 20.0}, 3)
    assert (tmp_path / "csv" / "train_loss.csv").read_text().split() == ["step,loss", "3,1.5"]


def test_zero_3_averages_and_exports_whole_weights(world, tmp_path):
    recipe = Recipe(**{**vars(RECIPE), "zero": 3, "ema": 0.5})
    plain, made = make(world), make(world, recipe)
    averages = [Ema(m.network, 0.5) for m in (plain, made)]
    for step in range(2):
        take(plain, step)
        take(made, step, recipe)
        for average in averages:
            average.update()
    for number, (m, average) in enumerate(zip((plain, made), averages, strict=True)):
        m.export(tmp_path / f"{number}.safetensors")
        with average.swapped_in():
            m.export(tmp_path / f"{number}_ema.safetensors")
    for suffix in (".safetensors", "_ema.safetensors"):
        a, b = (load_file(tmp_path / f"{number}{suffix}") for number in (0, 1))
        assert set(a) == set(b)
        for name in a:
            torch.testing.assert_close(b[name], a[name], rtol=1e-4, atol=1e-6)
    made.save(tmp_path / "c", 2, {"step": 2}, keep=1, ema=averages[1])
    joined = engine.joined_weights(tmp_path / "c" / "step_2")
    assert joined is not None
    whole = load_file(tmp_path / "1.safetensors")
    assert all(torch.equal(joined[f"network.{name}"], value) for name, value in whole.items())
    plain.save(tmp_path / "p", 2, {"step": 2}, keep=1, ema=averages[0])
    for folder, number in (("p", 0), ("c", 1)):
        for raw, suffix in ((False, "_ema"), (True, "")):
            expected = load_file(tmp_path / f"{number}{suffix}.safetensors")
            saved = saved_weights.find(tmp_path / folder, raw=raw)
            assert isinstance(saved, dict)
            assert all(torch.equal(saved[name], value) for name, value in expected.items())
    again = make(world, recipe)
    other = Ema(again.network, 0.5)
    again.resume(tmp_path / "c" / "step_2", ema=other)
    assert take(again, 2, recipe).loss == take(made, 2, recipe).loss
    assert all(torch.equal(a, b) for a, b in zip(other.averages, averages[1].averages, strict=True))


class Steep(torch.nn.Module):
    """Gradients that overflow in half precision until the loss scale has come down."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.inner, self.outer = torch.nn.Linear(6, 16), torch.nn.Linear(16, 3)

    def forward(self, clip):
        return self.outer(self.inner(300 * clip.flatten(1)))


@pytest.mark.parametrize("zero", [1, 2, 3])
def test_half_precision_clips_and_scales_alike_with_zero(world, zero, tmp_path):
    """Last in this file: DeepSpeed remembers autocasting for the life of the process."""
    found = []
    for stage in (0, zero):
        recipe = Recipe(batch=4, lr=1e-3, optimizer="sgd", clip_grad=0.5, zero=stage, precision="fp16")
        settings = ds_config.settings(recipe, micro_batch=4)
        made = engine.Engine(losses.Classify(Steep(), recipe, 3), recipe, world, settings)
        steps = [take(made, 0, recipe) for _ in range(12)]
        made.save(tmp_path / str(stage), 12, {"step": 12}, keep=1)
        again = engine.Engine(losses.Classify(Steep(), recipe, 3), recipe, world, settings)
        again.resume(tmp_path / str(stage) / "step_12")
        assert take(again, 0, recipe) == take(made, 0, recipe)
        assert steps[0].grad_norm is None  # an overflow: nothing was learnt yet
        assert (steps[0].updated, steps[0].skipped) == (False, False)
        assert (steps[-1].updated, steps[-1].skipped) == (True, False)
        assert steps[1].loss == steps[0].loss
        found.append(steps)
    assert [s.loss for s in found[1]] == pytest.approx([s.loss for s in found[0]], rel=1e-3)
    assert found[1][-1].loss < found[1][0].loss
    assert found[1][-1].grad_norm == pytest.approx(found[0][-1].grad_norm, rel=1e-2)
