"""`run --interleave`: the timed metrics of a suite in rounds over all cases, so that drift hits every case alike.

Each case is first measured alone, from start to end, in a process that is gone before the next begins: its memory and
its best batch come from there. Then every case gets a resident process, one of which is active at a time, and each
round times each case once. A round that was disturbed (a GPU slowed down, cores used by others, a machine off its best
pace) is repeated, and left out where that does not help; where too few are left, the times carry a warning and are
compared with none. What the rounds found lies in `OUT/solo/rounds.jsonl`, so that a killed sweep goes on with the round
it was in.
"""

from __future__ import annotations

import dataclasses
import json
import math
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ...intervals import total
from ...metric_table import METRICS
from ...result import Metric, Result, metric_from_json
from ..events import Event
from ..measuring import machine, phases
from ..measuring.timing import combine, disturbed
from ..progress import SuiteProgress
from . import ledger
from .process import Child, Message, Round

FOLDER = "solo"
FILE = "rounds.jsonl"
TIMED = {name for name, metric in METRICS.items() if metric.interleaved}
REPEATS = 2
QUIET = 3  # undisturbed rounds that are enough to leave the others out

Rounds = dict[int, Round]


def interleave(solo: Sequence[Result], out: Path, rounds: int, progress: SuiteProgress) -> Iterator[Result]:
    """Yield each solo result with its timed metrics replaced by those of the rounds; the others as they were."""
    timed = [r for r in solo if r.status == "ok" and TIMED & set(r.case.metrics)]
    done = _read(out)
    residents = {r.case_id: _Resident(r, out) for r in timed if len(done[r.case_id]) < rounds}
    try:
        for number in range(1, rounds + 1):
            for case_id, resident in residents.items():
                if number in done[case_id] or resident.ended:
                    continue
                progress.update(Event(phase=f"round {number}: {resident.case.model}", done=number - 1, total=rounds))
                found = resident.measure(number, _best_pace(done))
                if found is not None:
                    done[case_id][number] = found
                    row = {"case_id": case_id, "round": number, **found}
                    ledger.append_line(out / FOLDER / FILE, json.dumps(row, default=sorted))
        best = _best_pace(done)
        for result in solo:
            ended = residents[result.case_id].ended if result.case_id in residents else None
            yield merge(result, done[result.case_id], ended, best) if result in timed else result
    finally:
        for resident in residents.values():
            resident.child.close()


def merge(result: Result, rounds: Rounds, ended: tuple[Any, str] | None, best_pace: float) -> Result:
    """Return the result with the medians of its rounds; a case whose process `ended` early says so and has none.

    A round is disturbed too where the machine was far from the best pace (ms) of all rounds of all cases.
    """
    found: dict[str, list[Metric]] = defaultdict(list)
    ordered = [_judged(rounds[number], best_pace) for number in sorted(rounds)]
    quiet = [row for row in ordered if not row["machine"].get("disturbed")]
    enough = len(quiet) >= max(QUIET, len(ordered) / 2)
    for row in quiet if enough else ordered:
        for name, metric in row["metrics"].items():
            found[name].append(metric_from_json(metric))
    timed = {name: combine(metrics) for name, metrics in found.items()}
    if not enough:
        timed = {name: disturbed(metric, _reasons(ordered)) for name, metric in timed.items()}
    spent = total([result.details.get("spent", {}), *(row["spent"] for row in ordered)])
    details = {**result.details, "rounds": [row["machine"] for row in ordered], "spent": spent}
    if ended is None:
        return dataclasses.replace(result, metrics={**result.metrics, **timed}, details=details)
    kept = {name: metric for name, metric in result.metrics.items() if name not in timed}
    return dataclasses.replace(result, status=ended[0], error=ended[1], metrics=kept, details=details)


def _judged(row: Round, best_pace: float) -> Round:
    """Return a round that says whether it was disturbed by itself, or slow beside the best pace."""
    found = row["machine"]
    said = found.get("disturbed") or machine.slowed(found, best_pace)
    return {**row, "machine": {**found, "disturbed": said}}


def _best_pace(done: dict[str, Rounds]) -> float:
    paces = [pace for rounds in done.values() for row in rounds.values() for pace in row["machine"].get("pace_ms", ())]
    return min(paces, default=math.inf)


def _reasons(rounds: Sequence[Round]) -> str:
    reasons = [reason for row in rounds for reason in row["machine"].get("disturbed", ())]
    last = f", in {len(rounds)} rounds: {reasons[-1]}" if reasons else " for lack of quiet rounds"
    return f"disturbed{last}; measure again when the machine is quiet"


class _Resident:
    """A case's process that waits for its rounds."""

    def __init__(self, result: Result, out: Path) -> None:
        self.case, self.ended = result.case, None
        metrics = tuple(name for name in result.case.metrics if name in TIMED)
        batch = result.case.batch or result.details.get("best_batch", 0)
        path = out / FOLDER / f"{result.case_id}.json"
        weights = None if result.case.recipe is None else str(out / "train" / result.case_id / "best.safetensors")
        case = dataclasses.replace(result.case, batch=batch, metrics=metrics)
        path.write_text(json.dumps({"case": case.to_json(), "weights": weights or result.case.checkpoint}))
        begin = time.monotonic()
        self.child = Child("worker", [str(path)], out / "logs" / f"{result.case_id}.log")
        self.ended: tuple[Any, str] | None
        self._check(next(self.child.events(self.case.time_limit), None))
        self.start = time.monotonic() - begin

    def measure(self, number: int, best_pace: float) -> Round | None:
        """Return the metrics of one round, what the machine did and where the time went, that of repeats included.

        A round that was disturbed is repeated. None from a process that has `ended`.
        """
        begin, spent, found = time.monotonic(), [], None
        while len(spent) <= REPEATS and (found is None or _judged(found, best_pace)["machine"].get("disturbed")):
            found = self._check(self.child.ask(self.case.time_limit, round=number))
            if found is None:
                return None
            spent.append(found["spent"])
        assert found is not None
        start, self.start = self.start, 0.0  # the first round's account has the start of the process
        wall = start + time.monotonic() - begin
        return {**found, "spent": phases.close(total(spent), start=start, wall=wall)}

    def _check(self, answer: Message | None) -> Round | None:
        if answer is None:
            self.ended = self.child.obituary(self.case.time_limit)
        elif "failed" in answer:
            self.ended = (answer["failed"], answer.get("error", ""))
        return answer.get("round") if answer and not self.ended else None


def _read(out: Path) -> dict[str, Rounds]:
    found: dict[str, Rounds] = defaultdict(dict)
    path = out / FOLDER / FILE
    for _, line in ledger.whole_lines(path) if path.exists() else ():
        row = json.loads(line)
        kept = Round(metrics=row["metrics"], machine=row["machine"], spent=row.get("spent", {}))
        found[row["case_id"]][row["round"]] = kept
    return found
