"""A case that stays in memory and times itself whenever it is told to: one side of `interleave`.

Started as `python -m reelbench.harness.suites.worker DESCRIPTION.json`. Answers `{"ready": true}`, then each line on
standard input with the metrics of a round, what the machine did meanwhile and where the time went, or with
`{"failed": …, "error": …}`.
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


def main() -> None:
    """Build the case in the file named first and measure a round for every line that comes."""
    parent = Parent()
    environment.fix_threads()
    try:
        _serve(parent)
    except torch.cuda.OutOfMemoryError as error:
        parent.send(failed="oom", error=" ".join(str(error).split())[:400])
    except Exception as error:  # costs this case's row, not the suite; the log holds the traceback
        traceback.print_exc()
        parent.send(failed="failed", error=f"{type(error).__name__}: {error}")
    os._exit(0)  # decoder threads may still be winding down; the answers are already out


def _serve(parent: Parent) -> None:
    described = json.loads(Path(sys.argv[1]).read_text())
    case = Case.from_json(described["case"])
    weights = described["weights"] and find_checkpoint(described["weights"])
    subject = make_subject(case, Index.load(splits.resolve(case.data, case.device).test), weights, [])
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
    """Leave the card's memory to the case whose turn it is."""
    if device.type == "cuda":
        torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
