"""`reelbench predict`: the classes of single files, with the scores that `eval` gives them."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
import torch
from reelbench import models
from reelbench.pipelines.index import Index
from safetensors.torch import save_file

MODEL = "tsm/micro"


@pytest.fixture(scope="module")
def weights(tmp_path_factory, tiny_synthetic) -> Path:
    """A checkpoint in a training folder that knows the classes."""
    folder = tmp_path_factory.mktemp("run")
    index = Index.load(tiny_synthetic["test"])
    torch.manual_seed(0)
    save_file(models.build(MODEL, num_classes=len(index.classes)).state_dict(), str(folder / "best.safetensors"))
    (folder / "classes.json").write_text(json.dumps(index.classes))
    return folder / "best.safetensors"


@pytest.mark.slow  # two verbs on videos
def test_the_scores_are_those_of_eval_and_broken_files_cost_only_themselves(
    reelbench, weights, tiny_synthetic, tmp_path
):
    index = Index.load(tiny_synthetic["test"])
    (tmp_path / "broken.mp4").write_bytes(b"no video at all")
    files = [index[1].path, tmp_path / "broken.mp4", index[0].path, tmp_path / "gone.mp4"]
    given = (MODEL, "--checkpoint", weights, "--device", "cpu", "--views", "2x1")
    code, out, err = reelbench("predict", MODEL, *files, *given[1:], "--format", "json")
    assert code == 1, err
    found = json.loads(out)
    assert [row["path"] for row in found] == list(map(str, files))
    assert found[1]["error"]
    assert found[3]["error"]
    dump = tmp_path / "scores.parquet"
    code, _, err = reelbench("eval", *given, "--data", tiny_synthetic["test"], "--dump", dump)
    assert code == 0, err
    table = pd.read_parquet(dump).set_index("path")
    for row in (found[0], found[2]):
        assert len(row["classes"]) == 5
        best = [entry["score"] for entry in row["classes"]]
        assert best == sorted(best, reverse=True)
        for entry in row["classes"]:
            assert entry["name"] == index.classes[entry["number"]]
            assert entry["score"] == pytest.approx(table.loc[row["path"], f"score_{entry['number']}"], rel=1e-4)


def test_unreadable_files_alone_are_a_line_each(reelbench, weights, tmp_path):
    code, out, _ = reelbench("predict", MODEL, tmp_path / "gone.mp4", "--checkpoint", weights, "--device", "cpu")
    assert code == 1
    assert len(out.splitlines()) == 1
    assert "gone.mp4: cannot be read: " in out


def test_random_weights_are_refused(reelbench, tmp_path):
    code, _, err = reelbench("predict", MODEL, tmp_path / "gone.mp4", "--device", "cpu")
    assert code == 2
    assert "tsm/micro has no weights of its own here: give a checkpoint" in err


OWN = """
import torch
from reelbench.models import Variant
from reelbench.spec import Clip

class Net(torch.nn.Module):
    def __init__(self, num_classes=3):
        super().__init__()
        self.scores = torch.nn.Parameter(torch.tensor([0.0, 2.0, 1.0]))

    def forward(self, clip):
        return self.scores.expand(len(clip), -1)

VARIANTS = {"net": Variant(
    build=Net, clip=Clip(frames=2, size=32, short_side=32), num_classes=3, weights=True, classes=("a", "b", "c")
)}
"""


def test_a_model_with_weights_of_its_own_needs_no_checkpoint(reelbench, tmp_path, tiny_synthetic):
    (tmp_path / "mine.py").write_text(OWN)
    video = Index.load(tiny_synthetic["test"])[0].path
    code, out, err = reelbench("predict", f"{tmp_path}/mine.py/net", video, "--device", "cpu")
    assert code == 0, err
    assert [line.split()[-1] for line in out.splitlines()[1:]] == ["b", "c", "a"]
    assert "66.5 %  b" in out
