"""`reelbench eval` by several ranks: every video once, the same numbers as one process."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
import sys

import pandas as pd
import pytest
import torch
from reelbench import models
from reelbench.errors import UserError
from reelbench.harness import eval
from reelbench.harness.training import launcher
from reelbench.pipelines.index import Index
from reelbench.spec import Views
from safetensors.torch import save_model


@pytest.mark.slow  # two ranks, each with its imports and decoders
def test_two_ranks_count_every_video_once(tiny_synthetic, tmp_path):
    index = Index.load(tiny_synthetic["test"])
    odd = dataclasses.replace(index, table=index.table.iloc[:7].reset_index(drop=True))
    odd.save(tmp_path / "odd.parquet")
    torch.manual_seed(0)
    save_model(models.build("tsm/micro", num_classes=8), str(tmp_path / "w.safetensors"))
    paths = [tmp_path / name for name in ("w.safetensors", "odd.parquet", "one.parquet", "two.parquet")]
    asked = eval.Evaluation(
        model="tsm/micro", checkpoint=paths[0], data=paths[1], views=Views(clips=2, crops=3), batch=2, workers=1,
        dump=paths[2],
    )  # fmt: skip
    alone = eval.evaluate_checkpoint(asked)
    command = [sys.executable, "-m", "reelbench.harness.cli", "eval", "tsm/micro", "--checkpoint", paths[0]]
    options = ["--data", paths[1], "--views", "2x3", "--device", "cpu", "--batch", 3, "--workers", 1, "--gpus", 2]
    environment = {**launcher.environment("cpu"), "OMP_NUM_THREADS": "1"}
    del environment[launcher.CHECKED]
    done = subprocess.run(
        [str(part) for part in (*command, *options, "--dump", paths[3])],
        env=environment, capture_output=True, text=True, timeout=180,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    [line] = [line for line in done.stdout.splitlines() if line.startswith("top1")]
    assert f"{alone['top1'].value:6.2f} %" in line
    assert "7 videos" in line
    one, two = (pd.read_parquet(path) for path in paths[2:])
    assert two["path"].tolist() == one["path"].tolist()
    assert two["path"].is_unique
    for a, b in zip(one["view_logits"], two["view_logits"], strict=True):
        assert len(a) == len(b) == 6
        for x, y in zip(a, b, strict=True):
            assert list(x) == pytest.approx(list(y), abs=1e-5)
    first = torch.tensor([list(view) for view in one["view_logits"][0]]).softmax(-1).mean(0)
    assert first.tolist() == pytest.approx([one[f"score_{k}"][0] for k in range(8)], abs=1e-6)


def test_what_is_gone_at_the_start_is_left_out_and_named(tiny_synthetic, tmp_path, capsys):
    shutil.copytree(tiny_synthetic["test"].parent, tmp_path / "set")
    index = Index.load(tmp_path / "set" / "test.parquet")
    save_model(models.build("tsm/micro", num_classes=8), str(tmp_path / "w.safetensors"))

    def tested():
        asked = eval.Evaluation(
            model="tsm/micro", checkpoint=tmp_path / "w.safetensors", data=tmp_path / "set" / "test.parquet",
            views=Views(), batch=4, workers=1,
        )  # fmt: skip
        return eval.evaluate_checkpoint(asked)["top1"]

    index[2].path.unlink()
    index[5].path.write_bytes(b"no video")
    convention = tested().convention
    assert "6 videos" in convention
    assert "2 broken skipped, 2 of 8 listed not tested" in convention
    said = capsys.readouterr().err
    assert f"skipped: {index[2].path}: No such file" in said
    assert f"skipped: {index[5].path}: changed since it was indexed" in said
    for row in (0, 1):
        index[row].path.unlink()
    with pytest.raises(UserError, match=r"4 of 8 files"):
        tested()


def test_a_precision_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(UserError, match="unknown precision 'bf61': did you mean 'bf16'"):
        eval.Evaluation(model="tsm/micro", checkpoint=tmp_path / "w", data=tmp_path / "i", precision="bf61")  # type: ignore[arg-type]
