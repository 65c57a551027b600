"""A suite, case after case, each in its own process, resumed from the ledger.

A case that crashes, is killed for memory or exceeds its time limit costs one row. Whatever ends the sweep itself, the
finished rows stay in `results.jsonl` and the next call goes on after them.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import json
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from . import data, environment, ledger
from .errors import UserError
from .progress import SuiteProgress
from .result import Result, Status, now
from .spec import Case, Suite


def sweep(suite: Suite, out: Path, *, device: str, only: str | None = None, fresh: bool = False) -> list[Result]:
    """Run every case of the suite that the ledger has not finished; return all of the suite's results."""
    cases = resolve_cases(suite, device, only)
    with ledger.lock(out):
        finished = {r.case_id: r for r in ledger.read(out) if r.status == "ok" and not fresh}
        pending = [case for case in cases if case.case_id not in finished]
        _write_environment(out)
        with SuiteProgress(suite.name, len(cases), len(cases) - len(pending)) as progress:
            for case in pending:
                progress.start(case)
                result = _run_in_process(case, out, progress)
                ledger.append(out, result)
                progress.finish(result)
    wanted = {case.case_id for case in cases}
    return [result for result in ledger.read(out) if result.case_id in wanted]


def resolve_cases(suite: Suite, device: str, only: str | None) -> list[Case]:
    """Return the cases to run with the device and the data's fingerprint filled in; check every model and clip."""
    from .. import models
    from .train import check_clip

    for case in suite.cases:
        own = models.find(case.model).clip
        if case.clip not in (None, own):
            check_clip(case.model, case.clip)
    chosen = [c for c in suite.cases if only is None or fnmatch.fnmatch(c.model, only)]
    if not chosen:
        raise UserError(f"--only '{only}' matches no case of {suite.name}: {', '.join(c.model for c in suite.cases)}")
    prints = {name: data.fingerprint(data.resolve(name)) for name in {c.data for c in chosen}}
    return [dataclasses.replace(c, device=device, fingerprint=prints[c.data]) for c in chosen]


def _run_in_process(case: Case, out: Path, progress: SuiteProgress) -> Result:
    """Run one case in a child; whatever becomes of the child, return a result."""
    started, begin = now(), time.monotonic()
    logs = out / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    description = logs / f"{case.case_id}.json"
    description.write_text(json.dumps(case.to_json(), indent=1))
    line = [sys.executable, "-m", "reelbench.harness.run", str(description), str(out)]
    with (logs / f"{case.case_id}.log").open("wb") as log:
        process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=log, stdin=subprocess.DEVNULL)
        try:
            for event in _events(process, begin + case.time_limit):
                if "result" in event:
                    return Result.from_json(event["result"])
                progress.update(**event)
            status, error = _obituary(process, case)
        finally:
            _kill_tree(process)
    seconds = time.monotonic() - begin
    return Result(case=case, status=status, started=started, seconds=seconds, error=error)


def _events(process: subprocess.Popen[bytes], deadline: float) -> Iterator[dict[str, Any]]:
    """Yield what the child reports until it closes its output or the deadline passes."""
    assert process.stdout is not None
    buffer = b""
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while selector.select(timeout=max(0.0, deadline - time.monotonic())):
            chunk = process.stdout.read1(1 << 16)  # type: ignore[attr-defined]
            if not chunk:
                return
            *lines, buffer = (buffer + chunk).split(b"\n")
            yield from (json.loads(line) for line in lines)


def _obituary(process: subprocess.Popen[bytes], case: Case) -> tuple[Status, str]:
    """Say how a child ended that left no result."""
    try:
        code = process.wait(timeout=2)
    except subprocess.TimeoutExpired:
        return "timeout", f"still running after its limit of {case.time_limit:.0f} s: raise time_limit, or see the log"
    if code == -signal.SIGKILL:
        return "oom", "killed by the system, most likely for memory: use a smaller batch, or see the log"
    name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    return "failed", f"the process ended with {name} before it had a result: see the log"


def _kill_tree(process: subprocess.Popen[bytes]) -> None:
    import psutil

    try:
        family = [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]
    except psutil.NoSuchProcess:
        family = []
    for member in family:
        try:
            member.kill()
        except psutil.NoSuchProcess:
            continue
    process.wait()
    if process.stdout is not None:
        process.stdout.close()


def _write_environment(out: Path) -> None:
    (out / "environment.json").write_text(json.dumps(environment.collect(), indent=1))
