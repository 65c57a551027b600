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
from collections.abc import Sequence
from pathlib import Path

from ... import address
from ...errors import UserError
from ...pipelines import splits
from ...result import Result, now
from ...spec import Case, Suite
from ..events import Event
from ..lock import lock
from ..measuring import environment, phases
from ..progress import SuiteProgress
from . import interleave, ledger
from .process import Child


def sweep(
    suite: Suite, out: Path, *, device: str, only: Sequence[str] = (), fresh: bool = False, rounds: int = 0
) -> tuple[list[Result], list[Result]]:
    """Run the suite's unfinished cases; return the newest results of all its cases, and those of this call.

    A case is finished if its newest result in `out` is `ok`; with `fresh` all are run again. With `only`, other cases
    are neither run nor returned (see `resolve_cases`). With `rounds` > 0, timed metrics are measured in that many
    rounds over all cases (see `interleave`). Raises UserError if a case cannot be resolved, or the folder is in use.
    """
    cases = resolve_cases(suite, device, only)
    with lock(out):
        finished = {r.case_id for r in ledger.read(out) if r.status == "ok" and not fresh}
        pending = [case for case in cases if case.case_id not in finished]
        _write_environment(out)
        with SuiteProgress(suite.name, len(cases), len(cases) - len(pending)) as progress:
            if rounds:
                _in_rounds(pending, out, rounds, fresh, progress)
            else:
                _one_by_one(pending, out, out, progress)
    wanted, measured = ({case.case_id for case in some} for some in (cases, pending))
    results = [result for result in ledger.read(out) if result.case_id in wanted]
    return results, [result for result in results if result.case_id in measured]


def _one_by_one(cases: Sequence[Case], out: Path, to: Path, progress: SuiteProgress) -> None:
    for case in cases:
        progress.start(case)
        result = _run_in_process(case, out, progress)
        ledger.append(to, result)
        progress.finish(result)


def _in_rounds(cases: Sequence[Case], out: Path, rounds: int, fresh: bool, progress: SuiteProgress) -> None:
    """Run the isolated pass, then the timed metrics round-robin; an interrupted run resumes either."""
    isolated = out / interleave.FOLDER
    if fresh:
        shutil.rmtree(isolated, ignore_errors=True)
    alone = {r.case_id: r for r in ledger.read(isolated) if r.status == "ok"}
    _one_by_one([case for case in cases if case.case_id not in alone], out, isolated, progress)
    done = {r.case_id: r for r in ledger.read(isolated)}
    for result in interleave.interleave([done[case.case_id] for case in cases], out, rounds, progress):
        ledger.append(out, result)


def resolve_cases(suite: Suite, device: str, only: Sequence[str]) -> list[Case]:
    """Return the cases to run, with device and data fingerprint filled in, and paths of models absolute.

    `only` holds glob patterns of model names; if empty, all cases are kept. Built-in data sets are made if they do not
    exist. Raises UserError if a model is unknown or cannot take its clip, if no case matches, or if the data cannot be
    found.
    """
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
    return [
        dataclasses.replace(c, model=address.absolute(c.model), device=device, fingerprint=prints[c.data])
        for c in chosen
    ]


def _run_in_process(case: Case, out: Path, progress: SuiteProgress) -> Result:
    """Run one case in a child process and return a result with its time breakdown, even if the child dies."""
    begin = time.monotonic()
    start, result = _ended(case, out, progress, begin)
    measured = result.details.get("time_breakdown", {})
    breakdown = phases.finalize(measured, start=start, wall=time.monotonic() - begin)
    return dataclasses.replace(result, details={**result.details, "time_breakdown": breakdown})


def _ended(case: Case, out: Path, progress: SuiteProgress, begin: float) -> tuple[float, Result]:
    """Return the seconds until the child's first message, and its result, or one with the status of its end."""
    started, start = now(), 0.0
    log = out / "logs" / f"{case.case_id}.log"
    log.unlink(missing_ok=True)
    child = Child("case", [str(describe(case, out)), str(out)], log)
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
    return start, Result(case=case, status=status, started=started, seconds=seconds, error=error)


def describe(case: Case, out: Path) -> Path:
    """Write the case's JSON for its process, in `out/logs`, and return the path."""
    path = out / "logs" / f"{case.case_id}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(case.to_json(), indent=1))
    return path


def _write_environment(out: Path) -> None:
    (out / "environment.json").write_text(json.dumps(environment.collect(), indent=1))
