"""Flags: a letter for each thing that makes a row's numbers doubtful, and one line that says what the letters mean."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..metric_table import quantity
from ..result import Metric, Result
from ._calibration import remarks
from ._provenance import marks
from ._table import printable

LETTERS = {"machine_disturbed": "d", "unsteady": "u", "above_peak": "p", "counters_disagree": "c"}
DISTURBED = "the machine was slower or disturbed: time it when it is quiet, or with --interleave"
OTHER, STALE, UNLEARNED = "w", "s", "n"
MOST = 2  # texts of a letter that the legend quotes
ORDER = (*LETTERS.values(), UNLEARNED, OTHER, STALE)


@dataclass(frozen=True)
class Flag:
    """A letter, the name of the number that it is about ("" if it is about the whole row), and why it is there."""

    letter: str
    number: str
    reason: str


def flags(results: Sequence[Result]) -> list[list[Flag]]:
    """Return the flags of each result."""
    slow, stale = remarks(results), marks(results)
    return [
        [*_flags(r, slow[i]), *([Flag(STALE, "", printable(stale[i]))] if stale[i] else [])]
        for i, r in enumerate(results)
    ]


def letters(found: Iterable[Flag]) -> str:
    """Return the letters of a row's flags, such as `d u`."""
    present = {flag.letter for flag in found}
    return " ".join(letter for letter in ORDER if letter in present)


def legend(rows: Iterable[Sequence[Flag]]) -> str:
    """Return what the letters in these rows mean, in one line; "" without flags."""
    reasons: dict[str, dict[str, None]] = {}
    for flag in (flag for row in rows for flag in row):
        text = DISTURBED if flag.letter == LETTERS["machine_disturbed"] else flag.reason
        reasons.setdefault(flag.letter, {})[text] = None
    parts = [f"{letter} {_quoted(list(reasons[letter]))}" for letter in ORDER if letter in reasons]
    return f"Flags: {' · '.join(parts)}" if parts else ""


def unlearned(result: Result) -> str:
    """Return in words that a case's top-1 is at chance, and what to try; "" if it learned or was not tested."""
    if "top1" not in result.metrics or result.details.get("learned") is not False:
        return ""
    chance, advice = result.details.get("chance"), result.details.get("advice")
    level = f"twice chance ({chance:g} %)" if isinstance(chance, int | float) else "twice chance"
    return f"did not learn: the lower bound of top-1 is not above {level}{f'; {advice}' if advice else ''}"


def _flags(result: Result, slow: str) -> list[Flag]:
    found = [flag for name, metric in result.metrics.items() for flag in _of_metric(name, metric)]
    if slow and any(quantity(name, metric.unit).timed for name, metric in result.metrics.items()):
        found.append(Flag(LETTERS["machine_disturbed"], "", slow))
    if text := unlearned(result):
        found.append(Flag(UNLEARNED, "top1", printable(text)))
    return found


def _of_metric(name: str, metric: Metric) -> list[Flag]:
    known = [LETTERS[flag] for flag in sorted(metric.flags)]
    # Results of earlier versions have the warning of an unsteady time, but not its flag.
    early = [LETTERS["unsteady"]] if metric.warning.startswith("unsteady") else [OTHER] if metric.warning else []
    return [Flag(letter, name, printable(metric.warning)) for letter in known or early]


def _quoted(reasons: list[str]) -> str:
    more = len(reasons) - MOST
    return "; ".join([*reasons[:MOST], *([f"and {more} more in the CSV report"] if more > 0 else [])])
