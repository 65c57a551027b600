"""`--fail-if`: decide whether run B is worse than run A by some percentage, is not, or that this cannot be decided."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from .. import power
from ..errors import UserError
from ..result import Result
from ._difference import UNTESTED, Difference, verdict
from ._stats import holm
from .compare import Verdict, judge

BAD = ("slower", "worse", "higher", "lower")
CALIBRATED = 1.05  # calibrations that differ by less do not hide a difference


@dataclass(frozen=True, kw_only=True)
class Gate:
    """What fails, and what cannot be decided: a line each."""

    failing: tuple[str, ...]
    undecided: tuple[str, ...]

    @property
    def code(self) -> int:
        """The exit code: 1 if something fails, else 3 if something cannot be decided, else 0."""
        return 1 if self.failing else 3 if self.undecided else 0


def decide(a: Sequence[Result], b: Sequence[Result], rule: str, metrics: Sequence[str] = ()) -> Gate:
    """Decide a rule such as `slower:5%` on the metrics that it is about, or of these only those of `metrics`.

    A metric fails if b surely differs that way, all tests corrected together by Holm, and by at least that percentage
    of the smaller value. It passes if it is less with 95 %, whatever the machine's own changes could hide: where some
    metric differs by that much, at most one gate of 20 passes. Otherwise it is undecided. Metrics with one
    value a side are not judged. Raises UserError if the rule is malformed, or the runs have no case in common.
    """
    match = re.fullmatch(rf"({'|'.join(BAD)}):(\d+(?:\.\d+)?)%?", rule)
    if match is None:
        raise UserError(f"--fail-if '{rule}': write one of {', '.join(BAD)} and a percentage, such as slower:5%")
    word, limit = match[1], float(match[2])
    found, _ = judge(a, b, metrics)
    asked = [v for v in found if word in _words(v.difference) and v.text != UNTESTED]
    tested = [v.difference.p for v in asked if v.difference.p is not None]
    corrected = iter(holm(tested))
    failing, undecided = [], []
    for v in asked:
        d = v.difference
        said = verdict(d, next(corrected) if d.p is not None else None)
        if said == word and d.percent >= limit:
            failing.append(f"{_name(v)} is {word} by {d.percent:.1f} %")
        elif _worst(d, word) >= 1 + limit / 100:
            undecided.append(f"{_name(v)} {_doubt(d, said, word, limit)}")
    if not asked:
        undecided.append(f"no metric that can be {word} has two values a side")
    return Gate(failing=tuple(failing), undecided=tuple(undecided))


def _name(found: Verdict) -> str:
    return f"{found.result.case.label}: {found.difference.column.header}"


def _words(d: Difference) -> tuple[str, ...]:
    """Return the rules that are about a metric."""
    if d.column.timed:
        return ("slower",)
    return ("worse",) if d.column.kind == "share" else ("higher", "lower")


def _worst(d: Difference, word: str) -> float:
    """Return the largest factor, in the rule's direction, by which b may differ from a."""
    if d.column.kind == "count" or (d.rounds < 2 and d.p is None and d.a == d.b):
        low = high = 1.0 if d.a == d.b else d.ratio[0] if d.ratio else math.inf
    else:
        low, high = d.bounds or (0.0, math.inf)
    up = word == "higher" or (word == "slower" and d.column.better != "higher")
    return (high if up else 1 / low if low > 0 else math.inf) * _hidden(d)


def _hidden(d: Difference) -> float:
    """Return the factor by which the machine's own changes may have made b look better."""
    faster = 1 / d.drift if 1 / d.drift > CALIBRATED else 1.0
    return max(d.swing, faster)


def _doubt(d: Difference, said: str, word: str, limit: float) -> str:
    """Return why it cannot be decided, and what it would take."""
    seen = _worst(d, word) / _hidden(d)
    if said.startswith("doubtful") or seen < 1 + limit / 100:
        return "cannot be judged: the machine changed meanwhile; measure again when it is quiet"
    worst = 100 * (seen - 1)
    text = f"may be up to {worst:.0f} % {word}" if math.isfinite(worst) else f"may be {word} by any amount"
    if d.column.kind == "share":
        return f"{text}: test more videos"
    if d.p is None:
        return f"{text}: {d.rounds} rounds a side are too few, take {power.FEWEST} or more"
    if not d.alone:
        return f"{text}: more runs a side would tell"
    needed = power.rounds_for(d.spread, limit / 100)
    shown = 100 * power.detectable(d.spread, d.rounds)
    more = f"{needed} rounds would do" if needed else "rounds of one run never do: repeat the runs with `run --fresh`"
    return f"{text}: {d.rounds} rounds a side show {shown:.0f} %, for {limit:g} % {more}"
