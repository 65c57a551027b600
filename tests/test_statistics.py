"""Intervals, rank tests, effect sizes and fronts, against tables, exhaustive counts and their own properties."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable
from statistics import NormalDist

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reelbench import intervals, power, student
from reelbench.intervals import (
    batch_medians,
    clustered_wilson,
    median_interval,
    serial_interval,
    wilson,
)
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


@pytest.mark.parametrize(("share", "alike"), [(0.5, 0.1), (0.8, 0.5), (0.95, 0.3)])
def test_wilson_s_interval_of_clusters_covers(share: float, alike: float):
    """Fifty recordings of four to seven clips; taken for independent, the clips cover far less."""
    draw, hits, plain = random.Random(1), 0, 0
    a, b = share * (1 / alike - 1), (1 - share) * (1 / alike - 1)
    for _ in range(600):
        chances = [draw.betavariate(a, b) for _ in range(50)]
        clusters = [number for number in range(50) for _ in range(draw.randint(4, 7))]
        right = [draw.random() < chances[number] for number in clusters]
        low, high = clustered_wilson(right, clusters)
        hits += low <= share <= high
        low, high = wilson(sum(right), len(right))
        plain += low <= share <= high
    assert hits >= 0.925 * 600
    assert plain < 0.9 * 600


def test_clusters_of_one_are_wilson_s_and_one_cluster_says_nothing():
    right = [True] * 7 + [False] * 3
    assert clustered_wilson(right, range(10)) == wilson(7, 10)
    assert clustered_wilson(right, [0] * 10) == (0.0, 1.0)
    low, high = clustered_wilson([True] * 10, [i // 2 for i in range(10)])
    assert (low, high) == (pytest.approx(wilson(5, 5, student.t_quantile(4))[0]), 1.0)


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


@pytest.mark.parametrize("of_spells", [0.0, 0.5, 0.9])
def test_the_interval_of_a_percentile_covers_though_neighbors_are_alike(
    of_spells: float, monkeypatch: pytest.MonkeyPatch
):
    """A bound that is missing covers; taken for independent, samples in spells would cover but half of the time."""
    truth = NormalDist().inv_cdf(0.9)

    def covering() -> float:
        draw, hits = random.Random(2), 0
        for _ in range(300):
            now, samples = draw.gauss(0, 1), []
            for _ in range(300):
                now = of_spells * now + math.sqrt(1 - of_spells**2) * draw.gauss(0, 1)
                samples.append(now)
            _, low, high = intervals.serial_quantile(samples, 0.9)
            hits += (low is None or low <= truth) and (high is None or truth <= high)
        return hits / 300

    assert covering() > 0.9
    monkeypatch.setattr(intervals, "inflation", lambda series: 1.0)
    assert (covering() > 0.9) == (of_spells == 0)


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


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=9))
def test_the_paired_test_of_clusters_counts_all_signs(differences: list[int]):
    flipped = [sum(s * d for s, d in zip(signs, differences, strict=True)) for signs in signs_of(len(differences))]
    expected = sum(abs(total) >= abs(sum(differences)) for total in flipped) / len(flipped)
    assert _stats.sign_flip(differences) == pytest.approx(expected)


def signs_of(count: int) -> list[tuple[int, ...]]:
    return list(itertools.product((-1, 1), repeat=count))


def test_the_normal_approximation_of_clusters_is_near_the_exact_test(monkeypatch: pytest.MonkeyPatch):
    draw = random.Random(5)
    differences = [draw.choice((-2, -1, 1, 2, 3)) for _ in range(60)]
    exact = _stats.sign_flip(differences)
    monkeypatch.setattr(_stats, "EXACT", 0)
    assert _stats.sign_flip(differences) == pytest.approx(exact, abs=0.01)


@pytest.mark.parametrize(
    ("t", "freedom", "p"), [(2.228, 10, 0.05), (4.587, 10, 0.001), (12.706, 1, 0.05), (3.0, 1e9, 0.003)]
)
def test_student_s_tails_are_those_of_the_tables(t: float, freedom: float, p: float):
    assert student.p_value(t, freedom) == pytest.approx(p, rel=0.02)
    assert student.p_value(-t, freedom) == student.p_value(t, freedom)
    assert student.p_value(math.inf, freedom) == 0


@pytest.mark.parametrize("rounds", [3, 8])
def test_the_interval_of_a_mean_covers_though_neighbors_are_alike(rounds: int):
    """Runs differ by 1 %, their rounds by 3 %, and each round is half its neighbor's."""
    draw, hits = random.Random(rounds), 0
    for _ in range(1000):
        sides = []
        for _ in range(2):
            now, shared, values = draw.gauss(0, 0.03), draw.gauss(0, 0.01), []
            for _ in range(rounds):
                now = 0.5 * now + math.sqrt(0.75) * draw.gauss(0, 0.03)
                values.append(math.exp(shared + now))
            sides.append(power.mean([values]))
        found = power.difference(*sides)
        hits += abs(found.value) <= student.t_quantile(student.whole(found.freedom)) * math.sqrt(found.variance)
    assert hits >= 935


def test_more_rounds_show_less_until_runs_themselves_vary():
    shown = [power.detectable(0.02, rounds) for rounds in (2, 3, 8, 30, 1000)]
    assert shown[0] == math.inf
    assert shown == sorted(shown, reverse=True)
    assert shown[-1] > power.detectable(0.0, 1000) > 0.03
    needed = power.rounds_for(0.02, 0.05)
    assert needed is not None
    assert power.detectable(0.02, needed) <= 0.05 < power.detectable(0.02, needed - 1)
    assert power.rounds_for(0.02, 0.03) is None


def test_benjamini_and_hochberg_multiply_the_largest_by_one():
    """Table 1 of their paper: fifteen tests, of which four stand at 5 % (by Holm three do)."""
    small = [0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459]
    p = [*small, 0.3240, 0.4262, 0.5719, 0.6528, 0.7590, 1.0]
    assert [q < 0.05 for q in _stats.benjamini_hochberg(p)] == [True] * 4 + [False] * 11
    assert sum(q < 0.05 for q in _stats.holm(p)) == 3
    assert _stats.benjamini_hochberg(p[::-1]) == _stats.benjamini_hochberg(p)[::-1]
    assert _stats.benjamini_hochberg([]) == []


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
