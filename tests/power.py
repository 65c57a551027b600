"""How often a comparison calls what differs, and what does not: simulated from stored samples, as docs/power.md.

    python -m reelbench.tests.power reports/reference/cpu/latency/results.jsonl > docs/power.md

A round is the median of an eighth of a case's stored samples, neighbors in time, from a random place on: what the
samples have of spells, tails and outliers, rounds have too. In a second setting each round also drifts by 2 %, half of
it from the round before and the same for all cases, and each case by 1 % from run to run. Seeds are fixed.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import random
import statistics
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from reelbench.intervals import clustered_wilson, wilson
from reelbench.power import detectable, detectable_points
from reelbench.reports import _gate, compare
from reelbench.result import Metric, Result

REPORTS = 400
FEWER = REPORTS // 8  # of what is counted by numbers, or costs twice as much
ROUNDS, GATE_ROUNDS = (4, 8, 16), (8, 32)
FACTORS = (1.05, 1.1, 1.2, 2.0)
DRIFT, RUN, SAME = 0.02, 0.01, 0.5
TWICE = {"throughput_frames_s": "throughput_clips_s"}  # one measurement in two units
CLUSTERS = tuple(itertools.product((20, 50, 200), (0.5, 0.8, 0.95), (0.05, 0.3, 0.7)))


def load(path: Path) -> list[Result]:
    """Return the results of a file that have timed samples."""
    results = [Result.from_json(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [r for r in results if any(m.samples for m in r.metrics.values())]


def side(
    results: Sequence[Result], rounds: int, draw: random.Random, factors: Callable[[int], float], *, drifts: bool
) -> list[Result]:
    """Return a simulated run: the times of case i are `factors(i)` times the stored ones."""
    shared = list(_spells(rounds, draw)) if drifts else [0.0] * rounds
    return [_case(result, shared, draw, factors(i), drifts=drifts) for i, result in enumerate(results)]


def _case(result: Result, shared: Sequence[float], draw: random.Random, factor: float, *, drifts: bool) -> Result:
    own = draw.gauss(0, RUN) if drifts else 0.0
    logs: dict[str, list[float]] = {}
    metrics = {}
    for name, metric in result.metrics.items():
        if not metric.samples:
            continue
        sign = -1 if metric.unit.endswith("/s") else 1
        blocks = logs.setdefault(TWICE.get(name, name), [_block(metric.samples, draw) for _ in shared])
        values = tuple(
            metric.value * math.exp(sign * (math.log(factor) + own + drift) + log)
            for log, drift in zip(blocks, shared, strict=True)
        )
        value = statistics.median(values)
        metrics[name] = Metric(value=value, unit=metric.unit, samples=values, rounds=(1,) * len(values))
    return dataclasses.replace(result, metrics=metrics, details={})


def _block(samples: Sequence[float], draw: random.Random) -> float:
    """Return the log of the median of a stretch of the samples, over that of all of them."""
    size, start = max(1, len(samples) // 8), draw.randrange(len(samples))
    stretch = [samples[(start + i) % len(samples)] for i in range(size)]
    return math.log(statistics.median(stretch) / statistics.median(samples))


def _spells(rounds: int, draw: random.Random) -> Iterator[float]:
    now = draw.gauss(0, DRIFT)
    for _ in range(rounds):
        now = SAME * now + math.sqrt(1 - SAME**2) * draw.gauss(0, DRIFT)
        yield now


def called(a: Sequence[Result], b: Sequence[Result]) -> list[bool]:
    """Return for each tested number whether it is called different."""
    verdicts, _ = compare.judge(a, b)
    return [v.text in ("faster", "slower", "higher", "lower") for v in verdicts if v.p is not None]


def alarms(results: Sequence[Result], rounds: int, reports: int, *, drifts: bool) -> float:
    """Return the share of reports on equal runs that call anything different."""
    draw = random.Random(rounds)
    pairs = ([side(results, rounds, draw, lambda i: 1.0, drifts=drifts) for _ in "ab"] for _ in range(reports))
    return statistics.fmean(any(called(a, b)) for a, b in pairs)


def power(results: Sequence[Result], rounds: int, factor: float, reports: int, *, drifts: bool) -> tuple[float, float]:
    """Return the share of numbers that are called where all cases are slower by a factor, and where one alone is."""
    draw = random.Random(rounds)
    every, single = [], []
    for _ in range(reports):
        chosen = draw.randrange(len(results))
        before = side(results, rounds, draw, lambda i: 1.0, drifts=drifts)
        every += called(before, side(results, rounds, draw, lambda i: factor, drifts=drifts))
        one = side(results, rounds, draw, lambda i, c=chosen: factor if i == c else 1.0, drifts=drifts)
        found, _ = compare.judge(before, one)
        single += [v.text == "slower" for v in found if v.p is not None and v.result.case == results[chosen].case]
    return statistics.fmean(every), statistics.fmean(single)


def gates(results: Sequence[Result], rounds: int, factor: float, reports: int, *, drifts: bool) -> Counter[int]:
    """Return how often `--fail-if slower:5%` ends in each exit code where one case is slower by a factor."""
    draw = random.Random(rounds)
    found: Counter[int] = Counter()
    for _ in range(reports):
        chosen = draw.randrange(len(results))
        before = side(results, rounds, draw, lambda i: 1.0, drifts=drifts)
        after = side(results, rounds, draw, lambda i, c=chosen: factor if i == c else 1.0, drifts=drifts)
        found[_gate.decide(before, after, "slower:5%").code] += 1
    return found


def coverage(clusters: int, share: float, alike: float, draws: int, seed: int = 0) -> tuple[float, float]:
    """Return how often the interval of an accuracy covers the true `share`: with groups, and as if there were none.

    Each group has 4 to 7 clips; its own share is drawn from a beta distribution, so that the clips' correlation is
    `alike`.
    """
    draw = random.Random(seed)
    a, b = share * (1 / alike - 1), (1 - share) * (1 / alike - 1)
    with_groups, without = [], []
    for _ in range(draws):
        chances = [draw.betavariate(a, b) for _ in range(clusters)]
        group = [number for number in range(clusters) for _ in range(draw.randint(4, 7))]
        right = [draw.random() < chances[number] for number in group]
        low, high = clustered_wilson(right, group)
        with_groups.append(low <= share <= high)
        low, high = wilson(sum(right), len(right))
        without.append(low <= share <= high)
    return statistics.fmean(with_groups), statistics.fmean(without)


def document(path: Path) -> Iterator[str]:
    """Yield the lines of docs/power.md."""
    results = load(path)
    numbers = len(called(results, results))
    yield from _head(path, len(results), numbers)
    for drifts, title in ((False, "As stored"), (True, "With drift and variation from run to run")):
        yield f"\n### {title}\n"
        yield "| rounds a side | false alarms | " + " | ".join(f"called at {f:.3g}×, all / one" for f in FACTORS) + " |"
        yield "|---" * (2 + len(FACTORS)) + "|"
        for rounds in ROUNDS:
            wrong = alarms(results, rounds, REPORTS, drifts=drifts)
            shown = [power(results, rounds, f, FEWER, drifts=drifts) for f in FACTORS]
            cells = " | ".join(f"{100 * every:.0f} / {100 * one:.0f} %" for every, one in shown)
            yield f"| {rounds} | {100 * wrong:.1f} % | {cells} |"
        yield "\n| rounds a side | one case is slower by | fails (1) | undecided (3) | passes (0) |"
        yield "|---|---|---|---|---|"
        for rounds, factor in itertools.product(GATE_ROUNDS, (1.0, *FACTORS[:3])):
            found = gates(results, rounds, factor, FEWER, drifts=drifts)
            cells = " | ".join(f"{100 * found[code] / found.total():.0f} %" for code in (1, 3, 0))
            yield f"| {rounds} | {100 * (factor - 1):.0f} % | {cells} |"
    yield from _accuracy()


def _head(path: Path, cases: int, numbers: int) -> Iterator[str]:
    yield "# What comparisons can see"
    yield "\nMade by `python -m reelbench.tests.power " + str(path) + " > docs/power.md`; do not edit."
    yield "\n## Times and rates\n"
    yield " ".join((__doc__ or "").split("\n\n")[-1].split())
    yield f"\nA report holds {numbers} numbers of {cases} cases, all corrected together. A false alarm is a report on"
    yield "two equal runs that calls any number different; `all / one` are the shares of the numbers that are called"
    counts = f"False alarms are of {REPORTS} reports, the rest of {FEWER}."
    yield f"where all cases differ, and where one alone does. {counts}"
    yield "The other table is `compare --fail-if slower:5%`, where one case differs.\n"
    yield "What no simulation from one run shows is how much runs differ from each other: `power.py` allows for 1 %,"
    yield "and for neighboring rounds being alike. Of six pairs of real interleaved runs of three equal micro models,"
    yield "eight rounds each, on two cores under heavy load of others (rounds varied by 32 to 54 %, neighboring ones"
    yield "with a correlation of 0.1, runs by up to 2.6 times), no number was called different, no gate was decided.\n"
    yield "The smallest difference that `run --interleave` promises (one number asked alone, a chance of 80 %):\n"
    yield "| rounds vary by | " + " | ".join(f"{rounds} rounds" for rounds in (*ROUNDS, 32)) + " |"
    yield "|---" * (2 + len(ROUNDS)) + "|"
    for spread in (0.005, 0.01, 0.02, 0.05):
        cells = " | ".join(f"±{100 * detectable(spread, rounds):.1f} %" for rounds in (*ROUNDS, 32))
        yield f"| {100 * spread:g} % | {cells} |"


def _accuracy() -> Iterator[str]:
    yield "\n## Accuracies\n"
    yield "How often the 95 % interval of an accuracy covers the true one, of 2000 simulated tests on groups of four to"
    yield "seven clips of one recording: with groups, and as if every clip were independent.\n"
    yield "| groups | accuracy | correlation of clips | with groups | without |"
    yield "|---|---|---|---|---|"
    for clusters, share, alike in CLUSTERS:
        with_groups, without = coverage(clusters, share, alike, 2000)
        yield f"| {clusters} | {share:.0%} | {alike:g} | {100 * with_groups:.1f} % | {100 * without:.1f} % |"
    yield "\nThe smallest difference of two models that their paired test shows with a chance of 80 %, if on a quarter"
    yield "of the videos one alone is right (of clips in groups, count the groups):\n"
    yield "| videos | " + " | ".join(str(videos) for videos in (100, 400, 1000, 4000, 20000)) + " |"
    yield "|---" * 6 + "|"
    yield "| points | " + " | ".join(f"{detectable_points(v):.1f}" for v in (100, 400, 1000, 4000, 20000)) + " |"


if __name__ == "__main__":
    for line in document(Path(sys.argv[1])):
        print(line, flush=True)
