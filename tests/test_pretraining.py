"""The command line's way from masked pre-training to a linear probe of its result."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from reelbench import models
from reelbench.harness.training import run_folder
from reelbench.spec import Recipe
from reelbench.tests import ranks
from safetensors.torch import load_file, save_model


def reelbench(*arguments: object) -> None:
    """Run a command as the one rank of a world, as torchrun would."""
    line = [sys.executable, "-m", "reelbench.harness.cli", *map(str, arguments)]
    code, output = ranks.finish(ranks.start(line, **ranks.place()))
    assert code == 0, output[-3000:]


@pytest.mark.slow  # two trainings, each in a process of its own
@pytest.mark.exhaustive
def test_pretrain_then_probe(tiny_synthetic: dict[str, Path], tmp_path: Path):
    data = ("--data", tiny_synthetic["train"], "--val", tiny_synthetic["val"], "--device", "cpu", "--workers", 1)
    short = ("--epochs", 1, "--batch", 8, "--precision", "fp32")
    before, after = tmp_path / "maskfeat", tmp_path / "probe"
    reelbench("train", "mvit/micro", "--recipe", "maskfeat", "--out", before, *data, *short)
    losses = [row["loss"] for row in run_folder.read_log(before)]
    assert len(losses) == 3
    assert all(math.isfinite(loss) and loss > 0 for loss in losses)
    assert run_folder.read_log(before, "validation") == []  # features have no accuracy

    weights = before / "last.safetensors"
    probe = ("--linear-probe", "--init-from", weights, "--lr", 0.1, "--monitor", "csv")
    reelbench("train", "mvit/micro", "--out", after, *data, *short, *probe)
    learnt, probed = load_file(weights), load_file(after / "last.safetensors")
    assert set(learnt) == set(probed)
    changed = {name for name in learnt if not torch.equal(learnt[name], probed[name])}
    assert changed == {"cls_head.weight", "cls_head.bias"}
    assert len(run_folder.read_log(after, "validation")) == 1
    assert (after / "monitor" / "csv" / "train_loss.csv").read_text().count("\n") == 4


@pytest.mark.slow  # a training of two models, with activations computed twice
@pytest.mark.exhaustive
def test_token_labels_train_through_the_launcher(tiny_synthetic: dict[str, Path], tmp_path: Path):
    """The annotator's weights are read in every rank; what is exported is the plain model."""
    name, out = "dualformer/micro", tmp_path / "run"
    save_model(models.build(name, num_classes=8), str(tmp_path / "annotator.safetensors"))
    recipe = Recipe(objective="token_label", annotator=name, epochs=0.34, batch=8, zero=2, ema=0.5, precision="bf16")
    (tmp_path / "recipe.json").write_text(json.dumps(asdict(recipe)))
    reelbench(
        "train", name, "--recipe", tmp_path / "recipe.json", "--annotator", tmp_path / "annotator.safetensors",
        "--out", out, "--data", tiny_synthetic["train"], "--val", tiny_synthetic["val"], "--device", "cpu",
        "--workers", 1, "--checkpoint-activations", "--deterministic",
    )  # fmt: skip
    assert len(run_folder.read_log(out)) == 1
    assert models.build(name, num_classes=8, checkpoint=out / "best.safetensors")
    assert json.loads((out / "job.json").read_text())["recipe"]["annotator"] == name
