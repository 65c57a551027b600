"""Intervals, rank tests, effect sizes and fronts, against tables, exhaustive counts and their own properties."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reelbench.intervals import batch_medians, median_interval, serial_interval, wilson
from reelbench.reports import _stats


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_meets_newcombes_table(successes: int, n: int, low: float, high: float):
    """R. G. Newcombe, "Two-sided confidence intervals for the single proportion", Statistics in Medicine 17 (1998)."""
    assert wilson(successes, n) == pytest.approx((low, high), abs=5e-5)


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_holds_its_share_and_is_symmetric(drawn: tuple[int, int]):
    successes, n = drawn
    low, high = wilson(successes, n)
    assert 0 <= low <= successes / n <= high <= 1
    assert wilson(n - successes, n) == pytest.approx((1 - high, 1 - low))


@pytest.mark.parametrize(("successes", "n"), [(1, 0), (-1, 5), (6, 5)])
def test_wilson_refuses_what_is_no_share(successes: int, n: int):
    with pytest.raises(ValueError, match="no share"):
        wilson(successes, n)


@pytest.mark.parametrize(("n", "rank"), [(5, 0), (6, 1), (8, 1), (9, 2), (20, 6), (30, 10), (100, 40)])
def test_the_median_lies_between_the_ranks_of_the_sign_test(n: int, rank: int):
    samples = list(range(1, n + 1))
    random.Random(n).shuffle(samples)
    expected = (rank, n + 1 - rank) if rank else (None, None)
    assert median_interval(samples) == ((n + 1) / 2, *expected)
    if rank:
        tail = sum(math.comb(n, i) for i in range(rank))
        assert 2 * tail / 2**n <= 0.05 < 2 * (tail + math.comb(n, rank)) / 2**n


def test_no_samples_have_no_median():
    with pytest.raises(ValueError, match="no samples"):
        median_interval([])


def covered(of_spells: float, interval: Callable[[list[float]], tuple[float, float | None, float | None]]) -> float:
    """The share of intervals that hold the true median, 0, of 200 samples whose neighbours share `of_spells`."""
    draw, hits = random.Random(1), 0
    for _ in range(300):
        now, samples = draw.gauss(0, 1), []
        for _ in range(200):
            now = of_spells * now + math.sqrt(1 - of_spells**2) * draw.gauss(0, 1)
            samples.append(now)
        _, low, high = interval(samples)
        assert low is not None
        assert high is not None
        hits += low <= 0 <= high
    return hits / 300


@pytest.mark.parametrize("of_spells", [0.0, 0.5, 0.9])
def test_the_interval_of_a_series_covers_though_neighbours_are_alike(of_spells: float):
    assert covered(of_spells, serial_interval) > 0.93


def test_one_sample_after_the_other_taken_for_independent_would_cover_less():
    assert covered(0.0, median_interval) > 0.93
    assert covered(0.9, median_interval) < 0.6


@given(st.lists(st.floats(1, 9), min_size=1, max_size=60))
def test_every_sample_is_in_one_stretch_and_the_median_in_its_interval(samples: list[float]):
    found = batch_medians(samples)
    assert len(found) == min(len(samples), 10)
    assert min(samples) <= min(found) <= max(found) <= max(samples)
    median, low, high = serial_interval(samples)
    assert (low is None) == (high is None) == (len(samples) < 6)
    if low is not None and high is not None:
        assert low <= median <= high


def exhaustive_p(a: list[float], b: list[float]) -> float:
    """The share of all splits of the pooled samples that are at least as uneven."""
    pooled = [*a, *b]
    middle = len(a) * len(b) / 2

    def wins(chosen: tuple[int, ...]) -> float:
        left = [pooled[i] for i in chosen]
        right = [pooled[i] for i in range(len(pooled)) if i not in chosen]
        return sum((x > y) + (x == y) / 2 for x in left for y in right)

    splits = list(itertools.combinations(range(len(pooled)), len(a)))
    observed = abs(wins(tuple(range(len(a)))) - middle)
    return sum(abs(wins(split) - middle) >= observed - 1e-9 for split in splits) / len(splits)


@given(st.lists(st.integers(0, 10**6), min_size=7, max_size=9, unique=True), st.integers(2, 5))
def test_the_exact_rank_test_counts_all_splits(values: list[int], cut: int):
    a, b = [float(v) for v in values[:cut]], [float(v) for v in values[cut:]]
    assert _stats.mann_whitney(a, b) == pytest.approx(exhaustive_p(a, b))


def test_the_rank_test_with_ties_is_near_the_exhaustive_one():
    a, b = [1.0, 2, 2, 3, 3, 4, 5], [2.0, 3, 4, 4, 5, 6, 6]
    assert _stats.mann_whitney(a, b) == pytest.approx(exhaustive_p(a, b), abs=0.02)
    assert _stats.mann_whitney([2.0] * 5, [2.0] * 9) == 1.0
    assert _stats.smallest_p(4, 4) == pytest.approx(_stats.mann_whitney([1, 2, 3, 4], [5, 6, 7, 8]))


def test_the_normal_approximation_is_near_the_exact_test(monkeypatch: pytest.MonkeyPatch):
    draw = random.Random(5)
    a, b = ([draw.gauss(mean, 1) for _ in range(30)] for mean in (0, 0.5))
    exact = _stats.mann_whitney(a, b)
    monkeypatch.setattr(_stats, "EXACT", 0)
    assert _stats.mann_whitney(a, b) == pytest.approx(exact, abs=0.001)
    assert _stats.mann_whitney(b, a) == pytest.approx(exact, abs=0.001)


@pytest.mark.parametrize("n", [8, 12, 40])
def test_the_interval_of_a_ratio_covers(n: int):
    draw = random.Random(n)
    covered = 0
    for _ in range(400):
        a, b = ([math.exp(draw.gauss(mean, 0.1)) for _ in range(n)] for mean in (0, 0.2))
        ratio, low, high = _stats.ratio_interval(a, b)
        assert low <= ratio <= high
        covered += low <= math.exp(0.2) <= high
    assert covered >= 0.92 * 400


def test_holm_multiplies_the_smallest_by_all_and_never_falls():
    assert _stats.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert _stats.holm([]) == []
    assert _stats.holm([0.6, 0.9]) == [1.0, 1.0]


def test_cliffs_delta_goes_from_none_to_all():
    assert _stats.effect_size([1, 2], [3, 4]) == 1
    assert _stats.effect_size([3, 4], [1, 2]) == -1
    assert _stats.effect_size([1, 2], [1, 2]) == 0


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=30), st.booleans(), st.booleans())
def test_the_front_is_what_nothing_beats(points: list[tuple[int, int]], lower_x: bool, higher_y: bool):
    def beats(p: tuple[int, int], q: tuple[int, int]) -> bool:
        x = q[0] - p[0] if lower_x else p[0] - q[0]
        y = p[1] - q[1] if higher_y else q[1] - p[1]
        return x >= 0 and y >= 0 and (x > 0 or y > 0)

    front = _stats.pareto([(float(x), float(y)) for x, y in points], lower_x=lower_x, higher_y=higher_y)
    assert sorted(front) == [i for i, q in enumerate(points) if not any(beats(p, q) for p in points)]
