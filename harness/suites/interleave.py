"""`run --interleave`: time the cases of a suite round-robin, so that clock drift affects all of them equally.

An isolated pass first runs each case in a process of its own, one after the other: memory and the best batch size come
from it. Then every case that succeeded and has timed metrics gets a worker process, one of which is active at a time,
and each round times each of these cases once. A disturbed round (a throttled or shared GPU, cores used by others, a
slow calibration) is repeated, and dropped if that does not help; if too few undisturbed rounds remain, the times are
flagged `machine_disturbed`. Finished rounds are kept in `OUT/isolated/rounds.jsonl`, from which an interrupted run
resumes. How many rounds are taken, `rounds` decides.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ...intervals import total
from ...metric_table import metric
from ...result import Metric, Result, metric_from_json
from ...spec import Case
from ..events import Event
from ..measuring import machine, phases
from ..measuring.timing import combine, disturbed
from ..progress import SuiteProgress
from . import ledger
from .process import Child, Message, Round
from .rounds import FIRST, Plan, of_rounds, sentence

FOLDER = "isolated"
FILE = "rounds.jsonl"
REPEATS = 2
QUIET = 3  # undisturbed rounds needed before disturbed ones are dropped

Rounds = dict[int, Round]


def interleave(isolated: Sequence[Result], out: Path, plan: Plan, progress: SuiteProgress) -> Iterator[Result]:
    """Yield each result of the isolated pass, its timed metrics replaced by those measured in rounds.

    Results that failed or have no timed metrics come unchanged; the first result comes after the last round. Rounds
    that `out` already holds are not measured again.
    """
    timed = [r for r in isolated if r.status == "ok" and _timed(r.case)]
    code = {r.case_id: _code(r) for r in isolated}
    done = _read(out, code)
    wanted = plan.wanted(of_rounds({r.case_id: done[r.case_id] for r in timed}))
    short = any(len(done[r.case_id]) < wanted for r in timed)
    workers = {r.case_id: _Worker(r, out) for r in timed if short and len(done[r.case_id]) < plan.rounds}
    number = 0
    try:
        while workers and number < wanted:
            number += 1
            for case_id, worker in workers.items():
                if number in done[case_id] or worker.ended:
                    continue
                progress.update(Event(phase=f"round {number}: {worker.case.label}", done=number - 1, total=wanted))
                found = worker.measure(number, _best_calibration(done))
                if found is not None:
                    done[case_id][number] = found
                    row = {"case_id": case_id, "round": number, "code": code[case_id], **found}
                    ledger.append_line(out / FOLDER / FILE, json.dumps(row, default=sorted))
            taken = of_rounds({case_id: done[case_id] for case_id in workers})
            before, wanted = wanted, plan.wanted(taken)
            if number == FIRST or wanted != before:
                note = sentence(taken, wanted, wanted / number * _seconds(done))
                progress.update(Event(phase=f"round {number}", done=number, total=wanted, note=note))
        best = _best_calibration(done)
        for result in isolated:
            ended = workers[result.case_id].ended if result.case_id in workers else None
            yield merge(result, done[result.case_id], ended, best) if result in timed else result
    finally:
        for worker in workers.values():
            worker.child.close()


def merge(result: Result, rounds: Rounds, ended: tuple[Any, str] | None, best_calibration: float) -> Result:
    """Return the result with its timed metrics replaced by the medians over its undisturbed rounds.

    If fewer than 3 rounds, or less than half of them, are undisturbed, all count and the metrics are flagged. `ended`
    is the (status, error) of a worker that ended early, or None: the result takes them and loses the metrics that its
    rounds measured. A round also counts as disturbed if its calibration was far above `best_calibration`, the fastest
    of all rounds of all cases, in ms.
    """
    found: dict[str, list[Metric]] = defaultdict(list)
    ordered = [_judged(rounds[number], best_calibration) for number in sorted(rounds)]
    quiet = [row for row in ordered if not row["machine"].get("disturbed")]
    enough = len(quiet) >= max(QUIET, len(ordered) / 2)
    for row in quiet if enough else ordered:
        for name, number in row["metrics"].items():
            found[name].append(metric_from_json(number))
    timed = {name: combine(metrics) for name, metrics in found.items()}
    if not enough:
        timed = {name: disturbed(number, _reasons(ordered)) for name, number in timed.items()}
    breakdown = total([result.details.get("time_breakdown", {}), *(row["time_breakdown"] for row in ordered)])
    details = {**result.details, "rounds": [row["machine"] for row in ordered], "time_breakdown": breakdown}
    if ended is None:
        return dataclasses.replace(result, metrics={**result.metrics, **timed}, details=details)
    kept = {name: number for name, number in result.metrics.items() if name not in timed}
    return dataclasses.replace(result, status=ended[0], error=ended[1], metrics=kept, details=details)


def _seconds(done: dict[str, Rounds]) -> float:
    return sum(row["time_breakdown"].get("wall", 0.0) for rounds in done.values() for row in rounds.values())


def _judged(row: Round, best_calibration: float) -> Round:
    """Return the round with `disturbed` filled in: its own reasons, or a calibration far above the best one."""
    state = row["machine"]
    reasons = state.get("disturbed") or machine.slowed(state, best_calibration)
    return {**row, "machine": {**state, "disturbed": reasons}}


def _timed(case: Case) -> tuple[str, ...]:
    return tuple(name for name in case.metrics if metric(name).interleaved)


def _is_disturbed(row: Round, best_calibration: float) -> bool:
    return bool(_judged(row, best_calibration)["machine"].get("disturbed"))


def _best_calibration(done: dict[str, Rounds]) -> float:
    states = [row["machine"] for rounds in done.values() for row in rounds.values()]
    return min((ms for state in states for ms in state.get("calibration_ms", ())), default=math.inf)


def _reasons(rounds: Sequence[Round]) -> str:
    reasons = [reason for row in rounds for reason in row["machine"].get("disturbed", ())]
    last = f", in {len(rounds)} rounds: {reasons[-1]}" if reasons else " for lack of quiet rounds"
    return f"disturbed{last}; measure again when the machine is quiet"


class _Worker:
    """A case's process, which keeps the model loaded between rounds."""

    def __init__(self, result: Result, out: Path) -> None:
        self.case, self.ended = result.case, None
        metrics = _timed(result.case)
        batch = result.case.batch or result.details.get("best_batch", 0)
        path = out / FOLDER / f"{result.case_id}.json"
        trained = out / "train" / result.case_id / "best.safetensors"
        case = dataclasses.replace(result.case, batch=batch, metrics=metrics)
        weights = str(trained) if trained.exists() else result.case.checkpoint
        path.write_text(json.dumps({"case": case.to_json(), "weights": weights}))
        begin = time.monotonic()
        self.child = Child("worker", [str(path)], out / "logs" / f"{result.case_id}.log")
        self.ended: tuple[Any, str] | None
        self._check(next(self.child.events(self.case.time_limit), None))
        self.start = time.monotonic() - begin

    def measure(self, number: int, best_calibration: float) -> Round | None:
        """Time one round, repeating a disturbed one; None once the worker has `ended`.

        The round's time breakdown includes the repeats.
        """
        begin, breakdowns, found = time.monotonic(), [], None
        while len(breakdowns) <= REPEATS and (found is None or _is_disturbed(found, best_calibration)):
            found = self._check(self.child.ask(self.case.time_limit, round=number))
            if found is None:
                return None
            breakdowns.append(found["time_breakdown"])
        assert found is not None
        start, self.start = self.start, 0.0  # process startup counts for the first round
        wall = start + time.monotonic() - begin
        return {**found, "time_breakdown": phases.finalize(total(breakdowns), start=start, wall=wall)}

    def _check(self, answer: Message | None) -> Round | None:
        if answer is None:
            self.ended = self.child.exit_status(self.case.time_limit)
        elif "failed" in answer:
            self.ended = (answer["failed"], answer.get("error", ""))
        return answer.get("round") if answer and not self.ended else None


def _code(result: Result) -> str:
    """Return a hash of what measured a result, and where: rounds of other code or another machine are not its own."""
    text = json.dumps([result.machine, result.provenance], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _read(out: Path, code: dict[str, str]) -> dict[str, Rounds]:
    """Return the rounds that were measured by the `code` of their case."""
    found: dict[str, Rounds] = defaultdict(dict)
    path = out / FOLDER / FILE
    for _, line in ledger.complete_lines(path) if path.exists() else ():
        row = json.loads(line)
        if row.get("code") != code.get(row["case_id"]):
            continue
        kept = Round(metrics=row["metrics"], machine=row["machine"], time_breakdown=row.get("time_breakdown", {}))
        found[row["case_id"]][row["round"]] = kept
    return found
