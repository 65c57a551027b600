"""What a run has left to do: the cases that its folder holds no result of, from this machine and by today's code."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...result import Result, changes, machine, shortened
from ...spec import Case
from . import provenance

MOST = 4  # changes named in a line


@dataclass(frozen=True)
class Step:
    """One case of a run. `before` is its last result on this machine, if any; `changes` say, in words, what measures
    it otherwise now. If it is `kept`, it is not measured again.
    """

    case: Case
    before: Result | None
    changes: tuple[str, ...]
    kept: bool

    @property
    def why(self) -> str:
        """Why the case is measured, or, if it is kept, what has changed since; "" if nothing has."""
        if self.before is None:
            return "not measured yet"
        if self.before.status != "ok":
            return f"ended with {self.before.status}"
        return named(self.changes) if self.changes or self.kept else "--fresh"

    @property
    def result(self) -> Result | None:
        """The last result, marked as stale if it is kept in spite of changes."""
        if self.before is None or not (self.kept and self.changes):
            return self.before
        return dataclasses.replace(self.before, details={**self.before.details, "stale": list(self.changes)})


def steps(
    cases: Sequence[Case], done: Sequence[Result], here: Mapping[str, Any], *, fresh: bool = False,
    keep_stale: bool = False,
) -> list[Step]:  # fmt: skip
    """Return a step per case, given the newest results of a folder and this machine's environment.

    A case is kept if its last result here is `ok` and of the same code and versions; with `keep_stale`, if it is `ok`;
    with `fresh`, never.
    """
    last = {(result.case_id, result.machine): result for result in done}
    return [_step(case, last, machine(here, case.device), fresh, keep_stale) for case in cases]


def named(changes: Sequence[str]) -> str:
    """Return the first few changes, and the number of the others."""
    return shortened(changes, MOST)


def sentences(planned: Sequence[Step]) -> list[str]:
    """Return a line for each set of changes that finished cases are measured again for, or are kept in spite of."""
    groups: dict[tuple[str, bool], list[Step]] = {}
    for step in planned:
        if step.changes:
            groups.setdefault((step.why, step.kept), []).append(step)
    return [_sentence(why, kept, [step.case.label for step in group]) for (why, kept), group in groups.items()]


def _sentence(why: str, kept: bool, labels: Sequence[str]) -> str:
    which = labels[0] if len(labels) == 1 else f"{len(labels)} finished cases"
    verb = "kept as measured before" if kept else "measured again"
    return f"{which}: {verb}, since these changed: {why}"


def _step(
    case: Case, last: Mapping[tuple[str, str], Result], where: str, fresh: bool, keep_stale: bool
) -> Step:  # fmt: skip
    before = last.get((case.case_id, where)) or last.get((case.case_id, ""))
    finished = before is not None and before.status == "ok" and not fresh
    changed = changes(before.provenance, provenance.collect(case)) if before and finished else []
    return Step(case, before, tuple(changed), finished and (keep_stale or not changed))
