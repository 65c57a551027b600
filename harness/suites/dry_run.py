"""`run --dry-run`: what a run would measure, why, and how long that took before on this machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from ...errors import UserError
from ...result import Result, changes, machine
from ...spec import Case, Suite
from ..measuring import environment
from ..progress import duration
from . import ledger, provenance, resume
from .case import training_folder
from .sweep import resolve_cases


def describe(
    suite: Suite, out: Path, *, device: str, only: Sequence[str] = (), fresh: bool = False, keep_stale: bool = False
) -> str:
    """Return a line per case, and the time in total; nothing is measured, and nothing written into `out`.

    The times are those of the same cases on this machine, in `out` and in the folders beside it; without one a time is
    unknown. Built-in data sets are made if they do not exist. Raises UserError as `sweep` does.
    """
    here = environment.collect()
    cases = resolve_cases(suite, device, only)
    planned = resume.steps(cases, ledger.read(out), here, fresh=fresh, keep_stale=keep_stale)
    known = _known(out)
    where = machine(here, device)
    trained = {step.case.case_id for step in planned if _is_trained(step.case, out)}
    ids = [step.case.case_id for step in planned]
    seconds = {case_id: _seconds(known.get((case_id, where)), case_id in trained) for case_id in ids}
    lines = [_line(step, seconds[step.case.case_id], step.case.case_id in trained) for step in planned]
    return "\n".join([f"suite {suite.name} v{suite.version} in {out}", *lines, _total(planned, seconds)])


def _known(out: Path) -> dict[tuple[str, str], Result]:
    """Return finished results by case and machine, from the folders beside `out`, and before them from itself."""
    found: dict[tuple[str, str], Result] = {}
    for folder in (*sorted(path.parent for path in out.parent.glob(f"*/{ledger.FILE}")), out):
        try:
            found.update({(r.case_id, r.machine): r for r in ledger.read(folder) if r.status == "ok"})
        except UserError:  # of another version: no estimate
            continue
    return found


def _seconds(before: Result | None, trained: bool) -> float | None:
    """Return how long the case took before, without its training if that is kept."""
    if before is None:
        return None
    breakdown = before.details.get("time_breakdown", {})
    training = breakdown.get("training", 0.0) if trained else 0.0
    return breakdown.get("wall", before.seconds) - training


def _is_trained(case: Case, out: Path) -> bool:
    """Return whether the folder has the case's weights, trained by today's code."""
    folder = training_folder(case, out)
    trained = case.recipe is not None and (folder / "best.safetensors").exists()
    return trained and not changes(provenance.read(folder), provenance.of_training(case))


def _line(step: resume.Step, seconds: float | None, trained: bool) -> str:
    name = f"  {step.case.label} ({step.case.case_id})"
    if step.kept:
        return f"{name}: finished" + (f", kept though these changed: {step.why}" if step.changes else "")
    verb = f"measure again, since these changed: {step.why}" if step.changes else f"measure: {step.why}"
    how = ", with its training" if step.case.recipe is not None and not trained else ""
    return f"{name}: {verb}{how}; {'time unknown' if seconds is None else f'about {duration(seconds)}'}"


def _total(planned: Sequence[resume.Step], seconds: Mapping[str, float | None]) -> str:
    todo = [seconds[step.case.case_id] for step in planned if not step.kept]
    known = [s for s in todo if s is not None]
    text = f"{len(todo)} of {len(planned)} cases to measure"
    if not todo:
        return text
    unknown = f"{len(todo) - len(known)} of unknown time" if len(known) < len(todo) else ""
    return ": ".join([text, ", ".join(filter(None, [f"about {duration(sum(known))}" if known else "", unknown]))])
