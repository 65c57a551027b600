"""Intervals by the bootstrap over videos, and the average precision that it resamples."""

from __future__ import annotations

import pytest
import torch
from reelbench.harness.measuring import bootstrap
from reelbench.harness.measuring.accuracy import Predictions, scores
from reelbench.harness.measuring.bootstrap import Precision
from torchmetrics.functional.classification import binary_average_precision


def test_precision_is_that_of_torchmetrics_on_the_videos_repeated():
    """Ties, a class that nobody has, and videos that count twice or not at all."""
    draw = torch.Generator().manual_seed(1)
    score = torch.randint(6, (40, 5), generator=draw) / 6
    label = (torch.rand(40, 5, generator=draw) < 0.3).long()
    label[:, 4] = 0
    counts = torch.randint(3, (40,), generator=draw)
    found = Precision(score, label)(counts.double())
    repeated = torch.arange(40).repeat_interleave(counts)
    wanted = [float(binary_average_precision(score[repeated, k], label[repeated, k])) for k in range(4)]
    assert found[:4].tolist() == pytest.approx(wanted, abs=1e-6)
    assert found[4].isnan()


def test_the_interval_of_a_mean_is_the_textbook_one_and_reproducible():
    values = torch.rand(400, generator=torch.Generator().manual_seed(0)).double()
    mean, error = 100 * float(values.mean()), 100 * float(values.std()) / 20
    low, high, said = bootstrap.interval(mean, lambda counts: (counts * values).sum() / counts.sum(), 400)
    assert low == pytest.approx(mean - 1.96 * error, abs=0.3 * error)
    assert high == pytest.approx(mean + 1.96 * error, abs=0.3 * error)
    assert said == "95 % by 1000 bootstraps over videos, seed 0"
    assert bootstrap.interval(mean, lambda counts: (counts * values).sum() / counts.sum(), 400)[:2] == (low, high)


def test_what_does_not_vary_or_takes_too_long_has_no_interval():
    assert bootstrap.interval(100.0, lambda counts: torch.ones(()), 50) == (None, None, "")
    assert bootstrap.interval(50.0, lambda counts: counts.mean(), 30_000, work=3000) == (None, None, "")


def test_numbers_of_a_test_carry_it():
    draw = torch.Generator().manual_seed(0)
    label = torch.arange(60) % 6
    score = torch.rand(60, 6, generator=draw) + 0.5 * torch.eye(6)[label]
    found = scores(Predictions(torch.arange(60), label, score), 6, "1x1")["mean_class_accuracy"]
    assert found.low is not None
    assert found.high is not None
    assert 5 < found.high - found.low < 40
    assert found.low < found.value < found.high
    assert "bootstraps over videos, seed 0" in found.convention
    hot = (torch.rand(60, 6, generator=draw) < 0.4).float()
    for metric in ("map", "map_by_video", "map_by_category"):
        names = tuple(f"{'ab'[k % 2]}/{k}" for k in range(6))
        one = scores(Predictions(torch.arange(60), hot, score, metric=metric, classes=names), 6, "1x1")["map"]
        assert one.low is not None
        assert one.high is not None
        assert one.low < one.value < one.high


def test_map_over_videos_gives_the_bounds_of_what_was_not_tested():
    """Two videos at a precision of 1 and 1/2; of five listed, three may be at 0 or at 1."""
    score, label = torch.tensor([[0.9, 0.1], [0.9, 0.1]]), torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    found = scores(Predictions(torch.arange(2), label, score, listed=5, metric="map_by_video"), 2, "1x1")["map"]
    assert found.value == pytest.approx(75)
    assert "30.00 to 90.00 % of all listed" in found.convention
