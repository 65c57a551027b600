"""The measuring loop, on a fake clock: what a sample holds, when it stops, when it warns."""

from __future__ import annotations

import itertools

import pytest
import torch
from reelbench.harness import measure
from reelbench.harness.measure import Budget


class Clock:
    """Time that passes only while a step runs."""

    def __init__(self, durations):
        self.now, self.durations = 0.0, iter(durations)

    def step(self) -> None:
        self.now += next(self.durations)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch):
    def start(durations) -> Clock:
        made = Clock(durations)
        monkeypatch.setattr(measure.time, "perf_counter", lambda: made.now)
        return made

    return start


def test_a_sample_is_one_step(clock):
    assert measure.timed(clock([0.25]).step, "cpu") == 0.25


def test_warm_up_ends_when_steps_stop_getting_faster(clock):
    fake = clock(itertools.chain([9, 5, 3, 2, 1.5, 1.2], itertools.repeat(1.0)))
    calls = measure.warm_up(fake.step, "cpu", limit=1000)
    assert calls == 12  # the last three are no faster than the three before: 1, 1, 1 after 1, 1, 1


def test_a_steady_step_stops_at_the_least_time(clock):
    fake = clock(itertools.repeat(0.125))
    taken = measure.samples(fake.step, "cpu", Budget(min_seconds=2.0, max_seconds=100.0))
    assert len(taken) == 16


def test_a_noisy_step_stops_at_the_most_time(clock):
    fake = clock(itertools.chain([1.0] * 6, itertools.cycle([0.5, 1.5, 1.0, 2.0])))
    taken = measure.samples(fake.step, "cpu", Budget(min_seconds=1.0, max_seconds=20.0, precision=0.001))
    assert 20.0 <= sum(taken) < 22.5


def test_a_noisy_median_warns_and_a_steady_one_does_not():
    assert measure.summary([1.0, 2.0, 3.0, 4.0, 5.0, 6.0] * 2, "ms").warning
    assert not measure.summary([1.0, 1.01, 0.99] * 5, "ms").warning
    assert measure.summary([1.0, 1.0], "ms").warning


def test_flops_count_attention_as_its_two_products():
    from reelbench.harness.metrics.flops import count

    class Attention(torch.nn.Module):
        def forward(self, x):
            return torch.nn.functional.scaled_dot_product_attention(x, x, x)

    total, _ = count(Attention(), torch.randn(2, 3, 10, 8))
    assert total == 2 * (2 * 3 * 10 * 10 * 8)
