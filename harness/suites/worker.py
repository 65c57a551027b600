"""The worker process of `run --interleave`: keeps one case's model loaded and measures a round on request.

Started as `python -m reelbench.harness.suites.worker DESCRIPTION.json`. Sends `{"ready": true}`, then answers each line
on standard input with a round (metrics, the machine's state, time breakdown), or with `{"failed": …, "error": …}`.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import traceback
from pathlib import Path

import torch

from ...pipelines import splits
from ...pipelines.index import Index
from ...spec import Case
from .. import metrics
from ..measuring import environment, machine
from ..measuring.phases import PhaseTimer
from .case import find_checkpoint, make_subject
from .parent import Parent
from .process import Round

LEAST = 3  # samples of a round however slow a step is: intervals come from the rounds' medians


def main() -> None:
    """Build the case of the file in argv[1], measure a round for every line on standard input, and end the process."""
    parent = Parent()
    environment.fix_threads()
    try:
        _serve(parent)
    except torch.cuda.OutOfMemoryError as error:
        parent.send(failed="oom", error=" ".join(str(error).split())[:400])
    except Exception as error:  # fails this case, not the suite; the log has the traceback
        traceback.print_exc()
        parent.send(failed="failed", error=f"{type(error).__name__}: {error}")
    os._exit(0)  # do not wait for decoder threads; the answers have been sent


def _serve(parent: Parent) -> None:
    described = json.loads(Path(sys.argv[1]).read_text())
    case = Case.from_json(described["case"])
    weights = described["weights"] and find_checkpoint(described["weights"])
    subject = make_subject(case, Index.load(splits.resolve(case.data, case.device).test), weights, [])
    subject.budget = dataclasses.replace(subject.budget, least=LEAST)
    parent.send(ready=True)
    for _ in sys.stdin:
        parent.send(round=_round(subject))
        _release(subject.device)


def _round(subject: metrics.Subject) -> Round:
    subject.timer = PhaseTimer()
    with machine.watch(subject.device) as state:
        found = metrics.measure(subject)
    measured = {name: dataclasses.asdict(metric) for name, metric in found.items()}
    return {"metrics": measured, "machine": state, "time_breakdown": subject.timer.read()}


def _release(device: torch.device) -> None:
    """Release cached GPU memory for the worker whose turn is next."""
    if device.type == "cuda":
        torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
