"""The calibration of CPU measurements: the milliseconds of a fixed workload, timed before and after each of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median
from typing import Any

from ..result import SLOWER, MachineState, Result


def calibration(results: Sequence[Result]) -> float:
    """Return the median calibration (ms) of undisturbed measurements, or of all if none is; 0 without any."""
    seen = [state for result in results for state in states(result)]
    found = _calibrations([state for state in seen if not state.get("disturbed")] or seen)
    return median(found) if found else 0.0


def swing(results: Sequence[Result]) -> float:
    """Return the largest ratio of times that the machine's changes during these measurements explain, at least 1.

    That is the ratio of the slowest calibration to the fastest, and what other processes took of the cores; infinite
    without calibrations.
    """
    seen = [state for result in results for state in states(result)]
    found = _calibrations(seen)
    others = max((state.get("others_cpu", 0.0) for state in seen), default=0.0)
    return max(found) / min(found) / max(1e-9, 1 - others) if found else math.inf


def remarks(results: Sequence[Result]) -> list[str]:
    """Return a note per result: "" unless the machine was over `SLOWER` times slower than at its best in `results`."""
    best: dict[Any, float] = {}
    for result in results:
        if found := _calibrations(states(result)):
            best[_machine(result)] = min([*found, best.get(_machine(result), math.inf)])
    return [_remark(found / best[_machine(r)] if (found := calibration([r])) else 1.0) for r in results]


def states(result: Result) -> Sequence[MachineState]:
    """Return the machine's states: one per round of an interleaved case, otherwise one, {} if not recorded."""
    return result.details.get("rounds") or [result.details.get("machine", MachineState())]


def _calibrations(seen: Sequence[MachineState]) -> list[float]:
    return [ms for state in seen for ms in state.get("calibration_ms", ())]


def _machine(result: Result) -> tuple[Any, ...]:
    return tuple(result.environment.get(name) for name in ("cpu", "cores", "threads"))


def _remark(slower: float) -> str:
    text = f"the machine itself ran {slower:.1f} times slower than at its best among these cases"
    return f"{text}: times compare with `--interleave`" if slower > SLOWER else ""
