"""Compare two runs metric by metric: the ratio with its interval, and whether the difference is significant.

Times and rates are tested with the Mann-Whitney U test on rounds, accuracies by their Wilson intervals. All p-values of
a report are Holm-corrected together, so a run compared with itself shows a difference in at most one of 20 reports. A
round is one of several results of a case, a round of an interleaved run, or else a batch median of the samples. A
difference is reported only if both the test and the effect size support it; a time must also differ by more than the
calibrations of the two runs explain.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from statistics import median

from ..errors import UserError
from ..intervals import batch_medians
from ..result import Metric, Result
from . import _environment, terminal
from ._calibration import calibration
from ._stats import effect_size, holm, mann_whitney, ratio_interval, smallest_p, spread
from ._table import Cell, Column, Row, Table, metric_columns

Key = tuple[str, str]  # a case's id and a machine
ALPHA = 0.05
BAD = ("slower", "worse", "higher", "lower")
CLEAR = 0.33  # Cliff's delta above which an effect is more than small (Romano and others, 2006)
MARGIN = 1.05  # least ratio to report with one run per side, which does not show how much runs vary


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One metric of one case in both runs, in the metric's unit.

    `a` and `b` are medians over the results of the case, not scaled for display. `ratio` is b / a with its interval, if
    any (None if a is 0), `effect` Cliff's delta, `p` the uncorrected p-value (None if not testable),
    `smallest` the lowest p-value that this number of rounds can give. A ratio interval that reaches within `margin` is
    no difference. `drift` is the ratio of the calibration times, b / a.
    """

    column: Column
    a: float
    b: float
    ratio: tuple[float, float | None, float | None] | None
    effect: float | None = None
    p: float | None = None
    smallest: float = 0.0
    margin: float = 1.0
    drift: float = 1.0
    disturbed: bool = False


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The verdict on one metric of one case, with its corrected p-value (None if not tested); `result` is B's last."""

    result: Result
    difference: Difference
    p: float | None
    text: str

    @property
    def percent(self) -> float:
        """The difference in percent of the smaller value; 0 without a ratio."""
        ratio = self.difference.ratio
        return 100 * (max(ratio[0], 1 / ratio[0]) - 1) if ratio is not None and ratio[0] > 0 else 0.0


def render(a: Sequence[Result], b: Sequence[Result], *, width: int | None = None) -> str:
    """Return the comparison as text for a terminal; `width` in character cells, by default the window's."""
    return terminal.show(tables(a, b), title="ReelBench: B compared with A", width=width)


def tables(a: Sequence[Result], b: Sequence[Result]) -> list[Table]:
    """Return what differs around the runs, if anything does, and `compare`."""
    around = _environment.differences(a, b)
    return [*([around] if around else []), compare(a, b)]


def compare(a: Sequence[Result], b: Sequence[Result]) -> Table:
    """Return a row per case and metric that both runs have. Raises UserError if they have no case in common.

    They are matched by case and machine, else by case if each run has it on one machine, or else by model if each run
    has exactly one case of it.
    """
    found, notes = judge(a, b)
    tests = sum(v.p is not None for v in found)
    if any(v.difference.margin > 1 for v in found):
        notes.append(
            f"One run a side does not show how much runs vary: intervals that reach within {MARGIN:g}, or within the "
            "spread of either run's rounds, count as no difference."
        )
    return Table(
        title="Differences",
        columns=_COLUMNS,
        rows=tuple(_row(v) for v in found),
        caption=f"ratio: B / A with its 95 % interval · {tests} tests, corrected together, at {ALPHA * 100:g} %",
        notes=tuple(notes),
    )


def judge(a: Sequence[Result], b: Sequence[Result]) -> tuple[list[Verdict], list[str]]:
    """Return the verdicts on all metrics of matched cases, and notes on the rest. Raises UserError without matches."""
    pairs, notes = _pairs(_measured(a), _measured(b))
    if not pairs:
        raise UserError("nothing to compare: the two runs have no measured case in common")
    found = [(right[-1], d) for left, right in pairs for d in _differences(left, right)]
    tested = [d.p for _, d in found if d.p is not None]
    corrected = iter(holm(tested))
    p_values = [next(corrected) if d.p is not None else None for _, d in found]
    return [
        Verdict(result=result, difference=d, p=p, text=verdict(d, p, len(tested)))
        for (result, d), p in zip(found, p_values, strict=True)
    ], notes


def failing(a: Sequence[Result], b: Sequence[Result], rule: str) -> list[str]:
    """Return a line per violation of a rule such as `slower:5%`. Raises UserError if the rule is malformed.

    A verdict of that name violates it if b differs from a by at least that percentage of the smaller value;
    doubtful differences violate none. Raises UserError, too, if the runs have no case in common.
    """
    match = re.fullmatch(rf"({'|'.join(BAD)}):(\d+(?:\.\d+)?)%?", rule)
    if match is None:
        raise UserError(f"--fail-if '{rule}': write one of {', '.join(BAD)} and a percentage, such as slower:5%")
    found, _ = judge(a, b)
    wrong = [v for v in found if v.text == match[1] and v.percent >= float(match[2])]
    return [f"{v.result.case.label}: {v.difference.column.header} is {v.text} by {v.percent:.1f} %" for v in wrong]


_COLUMNS = (
    Column(name="model", header="model", numeric=False),
    Column(name="metric", header="metric", numeric=False),
    Column(name="a", header="A"),
    Column(name="b", header="B"),
    Column(name="ratio", header="B / A"),
    Column(name="effect", header="effect"),
    Column(name="p", header="p (Holm)"),
    Column(name="verdict", header="verdict", numeric=False),
    Column(name="case_id", header="case", numeric=False),
)


def _measured(results: Sequence[Result]) -> dict[Key, list[Result]]:
    groups: dict[Key, list[Result]] = defaultdict(list)
    for result in results:
        if result.metrics:
            groups[result.case_id, result.machine].append(result)
    return groups


def _pairs(
    a: dict[Key, list[Result]], b: dict[Key, list[Result]]
) -> tuple[list[tuple[list[Result], list[Result]]], list[str]]:
    """Match the cases of both runs; notes list how matches differ that are not of the same case, and the unmatched."""
    partner = {key: key for key in a if key in b}
    left, right = ({c: g for c, g in side.items() if c not in partner} for side in (a, b))
    for name in (lambda result: result.case_id, lambda result: result.case.label):
        for case_a, case_b in _once_in_each(left, right, name):
            partner[case_a] = case_b
            left.pop(case_a)
            right.pop(case_b)
    notes = [n for x, y in partner.items() if x[0] != y[0] for n in [_changes(a[x][-1], b[y][-1])]]
    moved = Counter((x[1], y[1]) for x, y in partner.items() if x[1] != y[1])
    notes += [
        f"{count} of the cases were measured on {before or 'another machine'} in A, on {now or 'another one'} in B"
        for (before, now), count in moved.items()
    ]
    pairs = [(_by_newest_code(a[x]), _by_newest_code(b[y])) for x, y in partner.items()]
    older = sum(len(a[x]) + len(b[y]) for x, y in partner.items()) - sum(len(one) + len(two) for one, two in pairs)
    if older:
        notes.append(f"{older} earlier results of these cases, by other code or versions, are left out")
    for name, rest in (("A", left), ("B", right)):
        if rest:
            models = ", ".join(f"{g[-1].case.label} ({case_id})" for (case_id, _), g in rest.items())
            notes.append(f"Only in {name}: {models}")
    return pairs, notes


def _by_newest_code(group: list[Result]) -> list[Result]:
    """Return the results of a group that are by the same code and versions as its newest."""
    return [result for result in group if result.provenance == group[-1].provenance]


def _once_in_each(
    a: dict[Key, list[Result]], b: dict[Key, list[Result]], name: Callable[[Result], str]
) -> list[tuple[Key, Key]]:
    """Return pairs of groups of the names that each run has exactly once."""

    def single(side: dict[Key, list[Result]]) -> dict[str, Key]:
        names = [name(group[-1]) for group in side.values()]
        return {n: key for key, n in zip(side, names, strict=True) if names.count(n) == 1}

    there = single(b)
    return [(key, there[n]) for n, key in single(a).items() if n in there]


def _changes(a: Result, b: Result) -> str:
    names = [f.name for f in dataclasses.fields(a.case) if getattr(a.case, f.name) != getattr(b.case, f.name)]
    parts = [f"{name} {getattr(a.case, name)} -> {getattr(b.case, name)}" for name in names]
    return f"{a.case.label} is another case in B: {', '.join(parts)}"


def _differences(a: Sequence[Result], b: Sequence[Result]) -> list[Difference]:
    columns = metric_columns([*a, *b])
    shared = [c for c in columns if all(any(c.name in r.metrics for r in side) for side in (a, b))]
    found = [_difference(column, *(_values(side, column.name) for side in (a, b))) for column in shared]
    calibrations = calibration(a), calibration(b)
    drift = calibrations[1] / calibrations[0] if all(calibrations) else 1.0
    return [dataclasses.replace(d, drift=drift) if d.column.timed else d for d in found]


def _values(results: Sequence[Result], name: str) -> list[Metric]:
    return [r.metrics[name] for r in results if name in r.metrics]


def _difference(column: Column, a: list[Metric], b: list[Metric]) -> Difference:
    first, second = median(m.value for m in a), median(m.value for m in b)
    plain = Difference(column=column, a=first, b=second, ratio=(second / first, None, None) if first else None)
    if column.kind == "share":
        return dataclasses.replace(plain, p=_accuracy_p(a[-1], b[-1]))
    rounds = _rounds(a), _rounds(b)
    if column.kind == "count" or min(map(len, rounds)) < 2 or min(map(min, rounds)) <= 0:
        return plain
    return dataclasses.replace(
        plain,
        ratio=ratio_interval(*rounds),
        effect=effect_size(*rounds),
        p=mann_whitney(*rounds),
        smallest=smallest_p(*map(len, rounds)),
        margin=max(MARGIN, *map(spread, rounds)) if len(a) == 1 or len(b) == 1 else 1.0,
        disturbed=any("machine_disturbed" in m.flags for m in (*a, *b)),
    )


def _rounds(metrics: Sequence[Metric]) -> list[float]:
    """Return values that may be treated as independent: one per run or round, or batch medians of a single run."""
    if len(metrics) > 1:
        return [m.value for m in metrics]
    samples, rounds = metrics[0].samples, metrics[0].rounds
    if rounds:
        ends = list(accumulate(rounds))
        return [median(samples[end - size : end]) for size, end in zip(rounds, ends, strict=True)]
    return batch_medians(samples)


def _accuracy_p(a: Metric, b: Metric) -> float | None:
    """Return the two-sided p-value of a difference of percentages, from the half-widths of their intervals."""
    if a.low is None or a.high is None or b.low is None or b.high is None:
        return None
    spread = math.hypot(a.high - a.low, b.high - b.low) / (2 * 1.96)
    return math.erfc(abs(b.value - a.value) / spread / math.sqrt(2)) if spread else None


def _row(found: Verdict) -> Row:
    result, d, p = found.result, found.difference, found.p
    c = d.column
    cells = (
        Cell(text=result.case.label),
        Cell(text=c.label),
        Cell(text=c.text(d.a), value=d.a),
        Cell(text=c.text(d.b), value=d.b),
        _ratio(d.ratio),
        Cell() if d.effect is None else Cell(text=f"{d.effect:+.2f}", value=d.effect),
        Cell() if p is None else Cell(text="< 0.001" if p < 0.001 else f"{p:.3f}", value=p),
        Cell(text=found.text),
        Cell(text=result.case_id),
    )
    return Row(cells=cells, case_id=result.case_id)


def _ratio(ratio: tuple[float, float | None, float | None] | None) -> Cell:
    if ratio is None:
        return Cell()
    middle, low, high = ratio
    interval = f"[{low:.3f}, {high:.3f}]" if low is not None and high is not None else ""
    return Cell(text=f"{middle:.3f}", value=middle, interval=interval)


def verdict(d: Difference, p: float | None, tests: int) -> str:
    """Return the verdict in words, given the corrected p-value of one of `tests` tests (None if not tested)."""
    if p is None:
        if d.a == d.b:
            return "equal"
        return _direction(d) if d.column.kind == "count" else "not tested: one value a side"
    if p >= ALPHA:
        return "too few rounds to tell" if d.smallest * tests >= ALPHA else "no difference"
    if d.effect is not None and abs(d.effect) < CLEAR:
        return "no difference"
    nearest = _nearest_to_one(*d.ratio) if d.ratio is not None else math.inf
    if nearest <= d.margin:
        return "no difference"
    direction, drift = _direction(d), max(d.drift, 1 / d.drift)
    if nearest <= d.margin * drift and direction == ("slower" if d.drift > 1 else "faster"):
        return f"doubtful: the machine itself was {drift:.2f} times {direction}"
    return "doubtful: the machine was disturbed" if d.disturbed else direction


def _nearest_to_one(middle: float, low: float | None, high: float | None) -> float:
    """Return the ratio within the interval that is nearest to 1, as a factor >= 1."""
    low, high = middle if low is None else low, middle if high is None else high
    return max(1.0, low, 1 / high)


def _direction(d: Difference) -> str:
    up = d.ratio[0] > 1 if d.ratio else d.b > d.a
    if d.column.timed:
        return "faster" if up == (d.column.better == "higher") else "slower"
    if d.column.kind == "share":
        return "better" if up else "worse"
    return "higher" if up else "lower"
