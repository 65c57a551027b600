"""`achieved_tflops` and `mfu`: model FLOPs utilization, relative to a matrix product measured on this machine.

Counts two operations per multiply-add, as data sheets do. The peak is the measured rate of a large square matmul in the
case's precision, in the same process, not a data sheet's figure.
"""

from __future__ import annotations

import torch

from ...result import Flag, Metric
from ..measuring import execution
from . import Subject, flops, throughput

SIDE = {"cuda": 8192, "cpu": 2048}
ABOVE = "above the matmul's: convolutions need fewer operations than are counted (Winograd), or it was disturbed"


def measure(subject: Subject) -> dict[str, Metric]:
    """Divide the FLOP rates of the model at its best batch and of the matmul, fastest step of each; {} for fp8."""
    if subject.case.precision == "fp8":
        return {}  # only the linear layers run in fp8: there is no single peak
    batch = throughput.best_batch(subject)
    clip = subject.example(batch)
    seconds = min(subject.time(lambda: subject.forward(clip)).host)
    with subject.timer.phase("counting"):
        each = 2 * flops.count(subject.model, subject.example(1))[0]
    achieved, peak = each * batch / seconds / 1e12, _product(subject)
    convention = f"batch {batch}, {subject.convention}, 2 operations a multiply-add, best step"
    against = f"{convention}; matrix product of side {SIDE[subject.device.type]}: {peak:.3g} TFLOP/s"
    above = ABOVE if achieved > peak else ""
    flags: frozenset[Flag] = frozenset({"above_peak"} if above else ())
    return {
        "achieved_tflops": Metric(value=achieved, unit="TFLOP/s", convention=convention),
        "mfu": Metric(value=achieved / peak, unit="", convention=against, warning=above, flags=flags),
    }


def _product(subject: Subject) -> float:
    """Return the TFLOP/s of a square matrix product."""
    side = SIDE[subject.device.type]
    dtype = {**execution.CAST, **execution.AUTOCAST}.get(subject.case.precision, torch.float32)
    a, b = (torch.randn(side, side, device=subject.device).to(dtype) for _ in range(2))

    def step() -> None:
        with torch.inference_mode():
            torch.matmul(a, b)

    return 2 * side**3 / min(subject.time(step).host) / 1e12
