"""Run a suite's cases one after the other, each in its own process, resuming from the ledger.

One crash, OOM kill or timeout fails one case, not the run. If the run itself is interrupted, finished cases stay in
`results.jsonl` and the next call resumes after them.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ... import address
from ...errors import UserError
from ...pipelines import splits
from ...result import Details, Result, machine, now
from ...spec import Case, Suite
from ..events import Event
from ..lock import lock
from ..measuring import environment, phases
from ..progress import SuiteProgress
from . import interleave, ledger, resume
from .process import Child
from .rounds import MOST, Plan, accuracy_sentences, of_results, plain_sentence, sentence

Live = Callable[[list[Result], str], None]


def sweep(
    suite: Suite, out: Path, *, device: str, only: Sequence[str] = (), fresh: bool = False, keep_stale: bool = False,
    rounds: int = 0, detect: float = 0.0, live: Live = lambda results, status: None,
) -> tuple[list[Result], list[Result]]:  # fmt: skip
    """Run the suite's unfinished cases; return the newest results of all its cases, and those of this call.

    A case is finished if `out` has an `ok` result of it, of this machine and today's code; with `fresh` none is, with
    `keep_stale` those of other code are too, marked as `stale` (see `resume`). With `only`, other cases are neither run
    nor returned (see `resolve_cases`). With `rounds` > 0, timed metrics are measured in that many rounds over all cases
    (see `interleave`), or with `detect` (0.05: 5 %) in as many as show such a difference, at most `rounds` if given.
    `live` is called after each case with what there is so far, and how far the suite is; if it fails, the run goes on.
    Raises UserError if a case cannot be resolved, no rounds show the difference, or the folder is in use.
    """
    plan = Plan(rounds or MOST, detect) if rounds or detect else None
    resolved = _resolved(suite, device, only)
    cases = list(resolved.values())
    run = _Run(out, environment.collect(), fresh, keep_stale, _origins(suite, resolved), live)
    with lock(out):
        planned = run.steps(cases, out)
        run.kept.update({(r.case_id, r.machine): r for step in planned if step.kept and (r := step.result)})
        pending = [step.case for step in planned if not step.kept]
        _write_environment(out, run.here)
        with SuiteProgress(suite.name, len(cases), len(cases) - len(pending)) as progress:
            for line in [*resume.sentences(planned), *_shown(planned, plan)]:
                progress.update(Event(phase="", note=line))
            if plan:
                _in_rounds(pending, run, plan, progress)
            else:
                _one_by_one(pending, run, out, progress)
    measured = {case.case_id for case in pending}
    results = run.asked(ledger.read(out))
    return results, [r for r in results if r.case_id in measured and r.machine == machine(run.here, device)]


@dataclass(frozen=True)
class _Run:
    """A run's folder, this machine's environment, what counts as finished, and what asked for each case, by its id."""

    out: Path
    here: dict[str, Any]
    fresh: bool
    keep_stale: bool
    origins: Mapping[str, Details]
    live: Live
    kept: dict[tuple[str, str], Result] = dataclasses.field(default_factory=dict)  # by case and machine

    def asked(self, results: Sequence[Result]) -> list[Result]:
        """Return the results of the suite's cases, of all that a folder holds; what is kept as stale says so."""
        return [self.kept.get((r.case_id, r.machine), r) for r in results if r.case_id in self.origins]

    def steps(self, cases: Sequence[Case], folder: Path) -> list[resume.Step]:
        """Return a step per case, given the results in a folder."""
        done = ledger.read(folder)
        return resume.steps(cases, done, self.here, fresh=self.fresh, keep_stale=self.keep_stale)


def _shown(planned: Sequence[resume.Step], plan: Plan | None) -> list[str]:
    """Return sentences on the differences that the run will show, as far as they are known before it."""
    pending = [step for step in planned if not step.kept]
    cases = [step.case for step in pending]
    notes = accuracy_sentences(cases)
    if plan is None:
        return [*filter(None, [plain_sentence(cases)]), *notes]
    earlier = [step.before for step in pending if step.before]
    values = of_results(earlier)
    seconds = sum(
        r.details.get("time_breakdown", {}).get("wall", 0.0) / max(1, len(r.details.get("rounds", ()))) for r in earlier
    )
    rounds = plan.wanted(values)
    return [*filter(None, [sentence(values, rounds, rounds * seconds)]), *notes]


def _one_by_one(cases: Sequence[Case], run: _Run, to: Path, progress: SuiteProgress) -> None:
    for case in cases:
        progress.start(case)
        result = _run_in_process(case, run, progress)
        ledger.append(to, result)
        progress.finish(result)
        try:
            run.live(run.asked(ledger.read(to)), progress.status())
        except Exception as error:  # noqa: BLE001 (a report that fails must not end the measurements)
            progress.update(Event(phase="", note=f"no report meanwhile: {type(error).__name__}: {error}"))


def _in_rounds(cases: Sequence[Case], run: _Run, plan: Plan, progress: SuiteProgress) -> None:
    """Run the isolated pass, then the timed metrics round-robin; an interrupted run resumes either."""
    isolated = run.out / interleave.FOLDER
    if run.fresh:
        shutil.rmtree(isolated, ignore_errors=True)
    _one_by_one([step.case for step in run.steps(cases, isolated) if not step.kept], run, isolated, progress)
    done = {step.case.case_id: step.before for step in run.steps(cases, isolated)}
    found = [result for case in cases if (result := done[case.case_id])]
    for result in interleave.interleave(found, run.out, plan, progress):
        ledger.append(run.out, result)


def resolve_cases(suite: Suite, device: str, only: Sequence[str]) -> list[Case]:
    """Return the cases to run, with device and data fingerprint filled in, and paths of models absolute.

    `only` holds glob patterns of model names; if empty, all cases are kept. Built-in data sets are made if they do not
    exist. Raises UserError if a model is unknown or cannot take its clip, if no case matches, or if the data cannot be
    found.
    """
    return list(_resolved(suite, device, only).values())


def _resolved(suite: Suite, device: str, only: Sequence[str]) -> dict[str, Case]:
    """Return the resolved cases by the id of the suite's own (see `resolve_cases`)."""
    from ... import models

    cases = suite.on(device)
    for case in cases:
        clip = models.choose_clip(case.model, case.recipe, case.clip)
        if clip != models.find(case.model).clip or case.options or case.model not in models.names():
            models.check_clip(case.model, clip, case.options)
        if case.probe is not None:
            models.check_probe(case.model, case.probe, clip, case.options)
    chosen = [c for c in cases if not only or any(fnmatch.fnmatch(c.model, pattern) for pattern in only)]
    if not chosen:
        patterns = " ".join(f"--only '{pattern}'" for pattern in only)
        raise UserError(f"{patterns} matches no case of {suite.name}: {', '.join(c.model for c in cases)}")
    prints = {name: splits.fingerprint(splits.resolve(name, device)) for name in {c.data for c in chosen}}
    return {
        c.case_id: dataclasses.replace(c, model=address.absolute(c.model), device=device, fingerprint=prints[c.data])
        for c in chosen
    }


def _origins(suite: Suite, resolved: Mapping[str, Case]) -> dict[str, Details]:
    """Return the details that name the suite, and the steps of its ablations, by the case's id."""
    found = {case.case_id: Details(suite=suite.name, suite_version=suite.version) for case in resolved.values()}
    for ablation in suite.ablations:
        base = resolved.get(next(iter(ablation.values())).case_id)
        for step, case in ablation.items():
            if base is not None and case.case_id in resolved:
                found[resolved[case.case_id].case_id].setdefault("steps", []).append([step, base.case_id])
    return found


def _run_in_process(case: Case, run: _Run, progress: SuiteProgress) -> Result:
    """Run one case in a child process and return a result with its time breakdown, even if the child dies."""
    begin = time.monotonic()
    start, result = _ended(case, run, progress, begin)
    measured = result.details.get("time_breakdown", {})
    breakdown = phases.finalize(measured, start=start, wall=time.monotonic() - begin)
    details = {**result.details, **run.origins[case.case_id], "time_breakdown": breakdown}
    return dataclasses.replace(result, details=details)


def _ended(case: Case, run: _Run, progress: SuiteProgress, begin: float) -> tuple[float, Result]:
    """Return the seconds until the child's first message, and its result, or one with the status of its end."""
    started, start = now(), 0.0
    log = run.out / "logs" / f"{case.case_id}.log"
    log.unlink(missing_ok=True)
    arguments = [str(describe(case, run.out)), str(run.out), *(["keep-stale"] if run.keep_stale else [])]
    child = Child("case", arguments, log)
    try:
        for message in child.events(case.time_limit):
            start = start or message.get("sent", time.monotonic()) - begin
            if "result" in message:
                return start, Result.from_json(message["result"])
            if "event" in message:
                progress.update(Event(**message["event"]))
        status, error = child.exit_status(case.time_limit)
    finally:
        child.close()
    seconds = time.monotonic() - begin
    return start, Result(
        case=case, status=status, started=started, seconds=seconds, environment=run.here, error=error
    )  # fmt: skip


def describe(case: Case, out: Path) -> Path:
    """Write the case's JSON for its process, in `out/logs`, and return the path."""
    path = out / "logs" / f"{case.case_id}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(case.to_json(), indent=1))
    return path


def _write_environment(out: Path, here: dict[str, Any]) -> None:
    (out / "environment.json").write_text(json.dumps(here, indent=1))
