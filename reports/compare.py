"""Compare two runs metric by metric: the ratio with its interval, and whether the difference is significant.

Times and rates are tested by the means of their logarithms over rounds, with Student's t distribution and the
allowances of `power`; accuracies by their intervals. All p-values of a report are corrected together, by Benjamini and
Hochberg, so a run compared with itself shows a difference in at most one of 20 reports. A round is a round of an
interleaved run, or else a batch of the samples in order of time; three results of a case, or more, are rounds
themselves. A difference is reported only if both the test and the effect size support it; a time must also differ by
more than the calibrations of the two runs explain.
"""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..errors import UserError, unknown
from ..power import MOMENT, RUN
from ..result import Result
from . import _environment, terminal
from ._difference import ALPHA, Difference, between, verdict
from ._stats import benjamini_hochberg
from ._table import Cell, Column, Row, Table, metric_columns

Key = tuple[str, str]  # a case's id and a machine


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The verdict on one metric of one case, with its corrected p-value (None if not tested); `result` is B's last."""

    result: Result
    difference: Difference
    p: float | None
    text: str


def render(a: Sequence[Result], b: Sequence[Result], *, metrics: Sequence[str] = (), width: int | None = None) -> str:
    """Return the comparison as text for a terminal; `width` in character cells, by default the window's."""
    return terminal.show(tables(a, b, metrics), title="ReelBench: B compared with A", width=width)


def tables(a: Sequence[Result], b: Sequence[Result], metrics: Sequence[str] = ()) -> list[Table]:
    """Return what differs around the runs, if anything does, and `compare`."""
    around = _environment.differences(a, b)
    return [*([around] if around else []), compare(a, b, metrics)]


def compare(a: Sequence[Result], b: Sequence[Result], metrics: Sequence[str] = ()) -> Table:
    """Return a row per case and metric that both runs have, or only for `metrics`.

    They are matched by case and machine, else by case if each run has it on one machine, or else by model if each run
    has exactly one case of it. Raises UserError if they have no case in common, or none of the metrics.
    """
    found, notes = judge(a, b, metrics)
    tests = sum(v.p is not None for v in found)
    if any(v.difference.alone for v in found if v.p is not None):
        notes.append(
            f"One run a side does not show how much runs vary. Its interval allows for {100 * RUN:g} % from run to run "
            f"and for neighboring rounds being alike, or without rounds (`run --interleave`) for {100 * MOMENT:g} %. "
            "Three runs a side (`run --fresh`) need no allowance."
        )
    return Table(
        title="Differences",
        columns=_COLUMNS,
        rows=tuple(_row(v) for v in found),
        caption=f"ratio: B / A with its 95 % interval · {tests} tests, corrected together, at {ALPHA * 100:g} %",
        notes=tuple(notes),
    )


def judge(a: Sequence[Result], b: Sequence[Result], metrics: Sequence[str] = ()) -> tuple[list[Verdict], list[str]]:
    """Return the verdicts on all metrics of matched cases, or only on `metrics`, and notes on the rest.

    Raises UserError if there are no matches, or a metric is in none.
    """
    pairs, notes = _pairs(_measured(a), _measured(b))
    if not pairs:
        raise UserError("nothing to compare: the two runs have no measured case in common")
    found = [(right[-1], d) for left, right in pairs for d in _differences(left, right)]
    known = {d.column.name for _, d in found}
    for name in metrics:
        if name not in known:
            raise unknown("metric of both runs", name, sorted(known))
    found = [(result, d) for result, d in found if not metrics or d.column.name in metrics]
    corrected = iter(benjamini_hochberg([d.p for _, d in found if d.p is not None]))
    p_values = [next(corrected) if d.p is not None else None for _, d in found]
    return [
        Verdict(result=result, difference=d, p=p, text=verdict(d, p))
        for (result, d), p in zip(found, p_values, strict=True)
    ], notes


_COLUMNS = (
    Column(name="model", header="model", numeric=False),
    Column(name="metric", header="metric", numeric=False),
    Column(name="a", header="A"),
    Column(name="b", header="B"),
    Column(name="ratio", header="B / A"),
    Column(name="effect", header="effect"),
    Column(name="p", header="p (BH)"),
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
    return [between(column, a, b) for column in shared]


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
