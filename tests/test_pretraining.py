"""The command line's way from masked pre-training to a linear probe of its result."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path

import torch
from reelbench.harness import train
from safetensors.torch import load_file


def reelbench(*arguments: object) -> str:
    environment = {k: v for k, v in os.environ.items() if k not in ("RANK", "WORLD_SIZE", "LOCAL_RANK")}
    done = subprocess.run(
        [sys.executable, "-m", "reelbench.harness.cli", *map(str, arguments)],
        env={**environment, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=180,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    return done.stderr


def test_pretrain_then_probe(tiny_synthetic: dict[str, Path], tmp_path: Path):
    data = ("--data", tiny_synthetic["train"], "--val", tiny_synthetic["val"], "--device", "cpu", "--workers", 1)
    short = ("--epochs", 1, "--batch", 8, "--precision", "fp32")
    before, after = tmp_path / "maskfeat", tmp_path / "probe"
    reelbench("train", "mvit/micro", "--recipe", "maskfeat", "--out", before, *data, *short)
    losses = [row["loss"] for row in train.read_log(before)]
    assert len(losses) == 3
    assert all(math.isfinite(loss) and loss > 0 for loss in losses)
    assert train.read_log(before, "validation") == []  # features have no accuracy

    weights = before / "last.safetensors"
    probe = ("--linear-probe", "--init-from", weights, "--lr", 0.1, "--monitor", "csv")
    reelbench("train", "mvit/micro", "--out", after, *data, *short, *probe)
    learnt, probed = load_file(weights), load_file(after / "last.safetensors")
    assert set(learnt) == set(probed)
    changed = {name for name in learnt if not torch.equal(learnt[name], probed[name])}
    assert changed == {"cls_head.weight", "cls_head.bias"}
    assert len(train.read_log(after, "validation")) == 1
    assert (after / "monitor" / "csv" / "train_loss.csv").read_text().count("\n") == 4
