"""Multi-view scores: every video counted once, probabilities averaged, shards joined in order."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
import torch
from reelbench.errors import UserError
from reelbench.harness.measuring.accuracy import Predictions, evaluate, scores


@dataclass
class Batch:
    clip: torch.Tensor
    label: torch.Tensor
    video: torch.Tensor


class Stream:
    """Two videos of two views and a third alone in the last batch; the clips already are the logits."""

    metric, listed, classes = "topk", 10, ("a", "b", "c")
    skipped = (("gone.mp4", "No such file"),)
    decoder = "dali"

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


class Several(Stream):
    """Three videos of two classes, each class right at a threshold of 0; the third shows both."""

    metric, listed, classes, skipped, decoder = "map", 0, ("a", "b"), (), "software"

    def epoch(self):
        logits = torch.tensor([[5.0, -9.0], [-1.0, -9.0], [4.0, 4.0], [-9.0, 3.0]])
        yield Batch(logits, torch.tensor([[1.0, 0], [0, 0], [1, 1], [0, 1]]), torch.arange(4))


def test_every_class_of_several_is_scored_on_its_own():
    """By a softmax, the video that shows neither class comes before the one that shows both."""
    found = evaluate(lambda clip: clip, Several())
    assert torch.allclose(found.score[2], torch.full((2,), 4.0).sigmoid())
    metric = scores(found, 2, "1x1", precision="bf16")["map"]
    assert metric.value == pytest.approx(100)
    assert str(metric.convention).startswith(
        "1x1 views, 4 videos, sigmoid averaged, software decoder, computed in bf16"
    )
    assert set(found.table(["a", "b", "c", "d"])["activation"]) == {"sigmoid"}
    theirs = evaluate(lambda clip: clip, Several(), activation="softmax")
    assert torch.allclose(theirs.score[2], torch.full((2,), 0.5))
    metric = scores(Predictions.join([theirs]), 2, "1x1")["map"]
    assert metric.value < 99
    assert "softmax averaged" in str(metric.convention)


def test_one_class_is_always_right():
    found = scores(Predictions(torch.arange(2), torch.zeros(2, dtype=torch.long), torch.ones(2, 1)), 1, "1x1")
    assert found["top1"].value == 100


def test_a_label_that_the_model_does_not_have_is_told():
    found = Predictions(torch.tensor([0]), torch.tensor([3]), torch.eye(3)[:1])
    with pytest.raises(UserError, match="label 3 cannot be scored: the model has 3 classes"):
        scores(found, 3, "1x1")


def test_scores_are_percent_with_wilson_bounds():
    found = scores(evaluate(lambda clip: clip, Stream()), 3, "2x1")
    assert found["top1"].value == pytest.approx(100 * 2 / 3)
    assert found["top1"].low < found["top1"].value < found["top1"].high
    assert found["top1"].convention == (
        "2x1 views, 3 videos, softmax averaged, dali decoder, 1 broken skipped, 7 of 10 listed not tested: "
        "20.00 to 90.00 % of all listed"
    )
    assert "top5" not in found
    # class 0: 1 of 1; class 1: 1 of 2; class 2 has no videos and does not count
    assert found["mean_class_accuracy"].value == pytest.approx(75.0)


def test_groups_of_clips_widen_every_interval(tmp_path):
    """Forty recordings of five clips, in which a model is right or wrong as a whole."""
    label = torch.arange(40).remainder(4).repeat_interleave(5)
    wrong = torch.arange(40).remainder(3).eq(0).repeat_interleave(5)
    plain = Predictions(torch.arange(200), label, torch.eye(4)[(label + wrong) % 4])
    grouped = plain.in_groups([f"g{row // 5}" for row in range(200)])
    for name, metric in scores(plain, 4, "1x1").items():
        wider = scores(grouped, 4, "1x1")[name]
        assert wider.value == metric.value
        assert wider.high - wider.low > 1.8 * (metric.high - metric.low), name
        assert "in 40 groups" in wider.convention
    hot = dataclasses.replace(grouped, label=torch.eye(4)[label], metric="map")
    assert "40 groups" in scores(hot, 4, "1x1")["map"].convention
    grouped.save(tmp_path / "p.parquet", [f"{row}.mp4" for row in range(200)])
    assert pd.read_parquet(tmp_path / "p.parquet")["group"].nunique() == 40
    alone = plain.in_groups(list(map(str, range(200))))
    assert scores(alone, 4, "1x1") == scores(plain, 4, "1x1")


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


def test_nothing_to_score_is_told_in_one_line():
    nothing = Predictions(torch.zeros(0, dtype=torch.long), torch.zeros(0), torch.zeros(0, 0), (("a.mp4", "gone"),))
    with pytest.raises(UserError, match="none of the videos could be read: a.mp4: gone"):
        scores(nothing, 3, "1x1")
    unlabeled = Predictions(torch.tensor([0]), torch.tensor([-1]), torch.eye(3)[:1])
    with pytest.raises(UserError, match="without labels"):
        scores(unlabeled, 3, "1x1")


def test_shards_join_with_a_rank_that_had_nothing():
    empty = Predictions(torch.zeros(0, dtype=torch.long), torch.zeros(0, dtype=torch.long), torch.zeros(0, 0))
    full = Predictions(torch.tensor([3]), torch.eye(3)[:1], torch.eye(3)[:1], (("x", "y"),), 5, "map", ("a", "b", "c"))
    joined = Predictions.join([empty, full])
    assert (joined.video.tolist(), joined.listed, joined.metric, joined.broken) == ([3], 5, "map", (("x", "y"),))


@pytest.mark.parametrize(("metric", "expected"), [("map", 0.3468191072003831), ("map_by_video", 0.4404325396825397)])
def test_mean_average_precision_is_the_official_one(metric: str, expected: float):
    """The figures are those of MMAction2's `mean_average_precision` and `mmit_mean_average_precision`."""
    state = np.random.RandomState(12)
    score = state.standard_normal((30, 8)).astype(np.float32)
    label = (state.rand(30, 8) < 0.3).astype(np.float32)
    label[label.sum(1) == 0, 0] = 1
    label[:, 7] = 0
    label[label.sum(1) == 0, 0] = 1
    probability = torch.from_numpy(score).sigmoid()  # only the ranking counts
    found = scores(Predictions(torch.arange(30), torch.from_numpy(label), probability, metric=metric), 8, "1x1")
    assert list(found) == ["map"]
    assert found["map"].value == pytest.approx(100 * expected, abs=1e-4)


def test_categories_are_averaged_and_told():
    """Of two classes of actions and one scene, the scene is found perfectly and one action is never shown."""
    label = torch.tensor([[1.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    score = torch.tensor([[0.9, 0.0, 0.8], [0.1, 0.0, 0.1], [0.5, 0.0, 0.9]])
    found = Predictions(
        torch.arange(3), label, score, metric="map_by_category", classes=("action/a", "action/b", "scene/c")
    )
    metric = scores(found, 3, "1x1")["map"]
    assert metric.value == pytest.approx((100 * (1 + 2 / 3) / 2 + 100) / 2)
    assert metric.convention is not None
    assert "action 83.33, scene 100.00" in metric.convention
    assert found.main == "map"


def test_a_multi_label_dump_lists_the_classes(tmp_path):
    found = Predictions(torch.tensor([1, 0]), torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]]), torch.eye(3)[:2])
    found.save(tmp_path / "p.parquet", ["a.mp4", "b.mp4"])
    table = pd.read_parquet(tmp_path / "p.parquet")
    assert [list(row) for row in table["label"]] == [[0, 2], [1]]
    assert table["path"].tolist() == ["b.mp4", "a.mp4"]
