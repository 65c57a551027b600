"""Multi-view scores: every video counted once, probabilities averaged, shards joined in order."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd
import pytest
import torch
from reelbench.harness.evaluate import Predictions, evaluate, scores


@dataclass
class Batch:
    clip: torch.Tensor
    label: torch.Tensor
    video: torch.Tensor


class Stream:
    """Two videos of two views and a third alone in the last batch; the clips already are the logits."""

    def epoch(self):
        logits = torch.tensor([[4.0, 0.0, 0.0], [0.0, 3.0, 0.0], [0.0, 0.0, 2.0], [0.0, 0.0, 2.0]])
        yield Batch(logits, torch.tensor([0, 0, 1, 1]), torch.tensor([7, 7, 2, 2]))
        yield Batch(torch.tensor([[0.0, 1.0, 0.0]] * 2), torch.tensor([1, 1]), torch.tensor([5, 5]))


def test_views_are_averaged_as_probabilities():
    seen: list[int] = []
    found = evaluate(lambda clip: clip, Stream(), progress=seen.append)
    assert found.video.tolist() == [7, 2, 5]
    assert found.score.shape == (3, 3)
    expected = torch.tensor([[4.0, 0.0, 0.0], [0.0, 3.0, 0.0]]).softmax(1).mean(0)
    assert torch.allclose(found.score[0], expected)
    assert seen == [2, 3]


def test_scores_are_percent_with_wilson_bounds():
    found = scores(evaluate(lambda clip: clip, Stream()), 3, "2x1")
    assert found["top1"].value == pytest.approx(100 * 2 / 3)
    assert found["top1"].low < found["top1"].value < found["top1"].high
    assert "2x1 views, 3 videos" in found["top1"].convention
    assert "top5" not in found
    # class 0: 1 of 1; class 1: 1 of 2; class 2 has no videos and does not count
    assert found["mean_class_accuracy"].value == pytest.approx(75.0)


def test_shards_join_in_the_index_order_and_dump(tmp_path):
    parts = [
        Predictions(torch.tensor([2, 0]), torch.tensor([1, 0]), torch.eye(3)[[1, 0]]),
        Predictions(torch.tensor([1]), torch.tensor([2]), torch.eye(3)[[2]]),
    ]
    joined = Predictions.join(parts)
    assert joined.video.tolist() == [0, 1, 2]
    joined.save(tmp_path / "p.parquet", ["a.mp4", "b.mp4", "c.mp4"])
    table = pd.read_parquet(tmp_path / "p.parquet")
    assert table["path"].tolist() == ["a.mp4", "b.mp4", "c.mp4"]
    assert table["predicted"].tolist() == [0, 2, 1]
    assert table["label"].tolist() == [0, 2, 1]
