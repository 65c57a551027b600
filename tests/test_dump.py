"""The file of `eval --dump`: what its suffix says, or refused before anything is computed."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pandas as pd
import pytest
import torch
from reelbench.errors import UserError
from reelbench.harness import dump, eval
from reelbench.harness.measuring.accuracy import Predictions
from reelbench.reports import _predictions

PATHS = ["a.mp4", "b.mp4", "c.mp4"]
ONE = Predictions(torch.tensor([0, 2]), torch.tensor([1, 0]), torch.tensor([[0.25, 0.75], [0.1, 0.9]]))
SEVERAL = Predictions(
    torch.tensor([0, 2]), torch.tensor([[1.0, 1.0], [0.0, 0.0]]), torch.tensor([[0.5, 0.75], [0.1, 0.25]]),
    metric="map", activation="sigmoid",
)  # fmt: skip
LOGITS = {0: [[0.0, 1.5], [0.0, 2.5]], 2: [[1.0, 2.0], [0.5, 2.0]]}


def test_a_table_is_the_same_in_every_format(tmp_path: Path):
    for suffix in (".parquet", ".csv", ".json"):
        dump.write(tmp_path / f"p{suffix}", ONE, PATHS, LOGITS)
    tables = [
        pd.read_parquet(tmp_path / "p.parquet"), pd.read_csv(tmp_path / "p.csv"), pd.read_json(tmp_path / "p.json")
    ]  # fmt: skip
    tables[1]["view_logits"] = tables[1]["view_logits"].map(json.loads)
    for table in tables:
        assert list(table["path"]) == ["a.mp4", "c.mp4"]
        assert list(table["label"]) == [1, 0]
        assert list(table["predicted"]) == [1, 1]
        assert list(table["activation"]) == ["softmax", "softmax"]
        assert list(table["score_1"]) == pytest.approx([0.75, 0.9])
        assert [[list(view) for view in row] for row in table["view_logits"]] == list(LOGITS.values())
    read = [_predictions.read(tmp_path / f"p{suffix}", "m") for suffix in (".parquet", ".csv", ".json")]
    assert read[0] == read[1] == read[2]


def test_several_labels_are_listed_in_every_format(tmp_path: Path):
    for suffix in (".parquet", ".csv", ".json"):
        dump.write(tmp_path / f"p{suffix}", SEVERAL, PATHS, LOGITS)
        with pytest.raises(UserError, match="multi-label"):
            _predictions.read(tmp_path / f"p{suffix}", "m")
    assert [json.loads(text) for text in pd.read_csv(tmp_path / "p.csv")["label"]] == [[0, 1], []]
    assert [row["label"] for row in json.loads((tmp_path / "p.json").read_text())] == [[0, 1], []]


def test_a_pickle_is_a_list_of_samples_with_tensors(tmp_path: Path):
    dump.write(tmp_path / "p.pkl", ONE, PATHS, LOGITS)
    first, second = pickle.loads((tmp_path / "p.pkl").read_bytes())
    assert (first["path"], first["num_classes"]) == ("a.mp4", 2)
    assert torch.equal(first["gt_label"], torch.tensor([1]))
    assert torch.equal(first["pred_label"], torch.tensor([1]))
    assert torch.equal(second["pred_score"], torch.tensor([0.1, 0.9]))
    dump.write(tmp_path / "p.pkl", SEVERAL, PATHS, LOGITS)
    first, _ = pickle.loads((tmp_path / "p.pkl").read_bytes())
    assert torch.equal(first["gt_label"], torch.tensor([1.0, 1.0]))
    assert first["pred_score"].untyped_storage().nbytes() == 8  # and not the scores of all videos


def test_a_dump_that_cannot_be_written_is_refused_before_the_test(tmp_path: Path, tiny_synthetic, monkeypatch):
    monkeypatch.setattr(eval, "evaluate", lambda *_, **__: pytest.fail("has begun"))
    (tmp_path / "file").touch()
    for path, said in (
        (tmp_path / "p.npy", "name a .parquet, .csv, .json or .pkl file"),
        (tmp_path / "file" / "p.csv", "cannot be written"),
        (tmp_path, "name a .parquet"),
    ):
        asked = eval.Evaluation(
            model="tsm/micro", checkpoint=tmp_path / "none.pth", data=tiny_synthetic["test"], dump=path
        )
        with pytest.raises(UserError, match=said):
            eval.evaluate_checkpoint(asked)
