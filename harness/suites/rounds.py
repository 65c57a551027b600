"""How many rounds `run --interleave` takes, and what differences two such runs will show: said before, not after.

What the rounds of a case vary is known from its earlier result in the same folder, or once this run has taken `FIRST`
rounds. The smallest difference that then shows is that of `power.detectable`.
"""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ... import power
from ...errors import UserError
from ...metric_table import metric, quantity
from ...pipelines import splits
from ...pipelines.index import Index
from ...result import Result
from ...spec import Case
from .process import Round

FIRST = 4
MOST = 64  # rounds that are planned for a difference
Values = Mapping[str, Mapping[str, Sequence[float]]]  # of every round, by case and number


@dataclass(frozen=True)
class Plan:
    """Take so many `rounds`, or if a difference is to be shown (`detect`, 0.05: 5 %), as many as that needs, at most.

    Raises UserError if no number of rounds of one run shows such a difference.
    """

    rounds: int
    detect: float = 0.0

    def __post_init__(self) -> None:
        least = power.detectable(0.0, power.MOST_ROUNDS)
        if self.detect and self.detect < least:
            raise UserError(
                f"--detect {self.detect:.1%}: runs differ by themselves, one a side shows {least:.1%} at best: "
                "ask for more, or repeat the run with `run --fresh`"
            )

    def wanted(self, done: Values) -> int:
        """Return the number of rounds, given what is measured so far."""
        if not self.detect:
            return self.rounds
        spreads = _spreads(done)
        if not spreads:
            return min(FIRST, self.rounds)
        needed = [power.rounds_for(spread, self.detect) or self.rounds for spread in spreads.values()]
        return min(max(needed), self.rounds)


def of_rounds(rounds: Mapping[str, Mapping[int, Round]]) -> Values:
    """Return the values of the rounds taken so far, by case id; disturbed ones only where there are too few others."""
    found: dict[str, dict[str, list[float]]] = {}
    for case_id, rows in rounds.items():
        quiet = [row for row in rows.values() if not row["machine"].get("disturbed")]
        taken: dict[str, list[float]] = defaultdict(list)
        for row in quiet if len(quiet) >= power.FEWEST else rows.values():
            for name, number in row["metrics"].items():
                taken[name].append(number["value"])
        found[case_id] = taken
    return found


def of_results(results: Iterable[Result]) -> Values:
    """Return the values of the rounds of earlier results, by case id."""
    found: dict[str, dict[str, list[float]]] = defaultdict(dict)
    for result in results:
        for name, number in result.metrics.items():
            if number.rounds and number.samples:
                found[result.case_id][name] = number.round_medians
    return found


def sentence(done: Values, rounds: int, seconds: float) -> str:
    """Return what so many rounds will show, in about so many seconds, given what rounds vary; "" if that is unknown."""
    by_name: dict[str, list[float]] = defaultdict(list)
    for (_, name), spread in _spreads(done).items():
        by_name[quantity(name).header].append(power.detectable(spread, rounds))
    parts = [
        f"±{statistics.median(shown):.1%} in {name}"
        + (f" (the worst case ±{max(shown):.1%})" if len(shown) > 1 else "")
        for name, shown in by_name.items()
    ]
    minutes = max(1, round(seconds / 60))
    return f"{rounds} rounds, about {minutes} min, show differences of {', '.join(parts)}" if parts else ""


def plain_sentence(cases: Sequence[Case]) -> str:
    """Return what a run without rounds shows at best; "" if it times nothing."""
    if not any(metric(name).interleaved for case in cases for name in case.metrics):
        return ""
    least = power.detectable(0.0, power.MOST_ROUNDS, power.MOMENT)
    return f"one measurement a case shows differences of ±{least:.0%} at best: `--interleave` shows smaller ones"


def accuracy_sentences(cases: Iterable[Case]) -> list[str]:
    """Return per data set what difference of two models its videos show, if the cases test accuracy."""
    tested = {case.data: case for case in cases if any(metric(name).needs_weights for name in case.metrics)}
    found = []
    for data, case in tested.items():
        index = Index.load(splits.resolve(data, case.device).test)
        groups = len(set(index.groups))
        if groups:
            text = f"{len(index)} videos" + (f", in {groups} groups," if groups < len(index) else "")
            points = power.detectable_points(groups)
            found.append(
                f"{text} show a difference of {points:.1f} points between two models, "
                f"if on {power.DISAGREEING:.0%} of the videos one alone is right"
            )
    return found


def _spreads(done: Values) -> dict[tuple[str, str], float]:
    """Return by case and number the standard deviation of the rounds' logarithms, where there are enough rounds."""
    return {
        (case_id, name): statistics.stdev(map(math.log, values))
        for case_id, numbers in done.items()
        for name, values in numbers.items()
        if len(values) >= power.FEWEST and min(values) > 0 and quantity(name).headline
    }
