"""What to try when a training did not learn, read from its own log: one line, the first symptom that fits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean, median, stdev

Log = Sequence[Mapping[str, float]]

EXPLODED = 20  # times the early norm; clean trainings of the micros stay below 10
FLAT = 0.05  # of the first loss: what a run that learns loses many times over
FITTED = 0.5  # of the first loss: from here on the training videos are what limits


def advice(log: Log) -> str:
    """Return one line on a training that did not learn: the symptom in its `train` log, and what to try.

    Rows are as `run_folder.read_log` returns them: `loss` and `lr`, and where known `grad_norm`. "" for an empty log.
    """
    if not log:
        return ""
    return _exploding(log) or _warming_up(log) or _flat(log) or _late(log)


def _tenths(log: Log, name: str) -> tuple[list[float], list[float]]:
    """Return a column's first and last tenth, at least 5 values each if there are as many."""
    values = [row[name] for row in log if name in row]
    size = max(5, len(values) // 10)
    return values[:size], values[-size:]


def _exploding(log: Log) -> str:
    norms = [(row["grad_norm"], row["step"]) for row in log if "grad_norm" in row]
    if not norms:
        return ""
    first, _ = _tenths(log, "grad_norm")
    early, (largest, step) = median(first), max(norms)
    if largest <= EXPLODED * early:
        return ""
    return (
        f"the gradient's norm grew from {early:.2g} to {largest:.2g} (step {step:.0f}): "
        f"a lower lr than {_peak(log):.2g}, a longer warm-up, or clip_grad=1"
    )


def _warming_up(log: Log) -> str:
    rates = [row["lr"] for row in log]
    if len(rates) < 2 or rates[-1] < max(rates) or rates[-1] <= rates[-2]:
        return ""
    return (
        f"the learning rate was still warming up at the last of {len(log)} steps ({rates[0]:.2g} to {rates[-1]:.2g}): "
        "more epochs, or fewer warmup_epochs"
    )


def _flat(log: Log) -> str:
    first, last = map(fmean, _tenths(log, "loss"))
    if last < first * (1 - FLAT):
        return ""
    if last > first + _spread(log):
        return f"the loss rose from {first:.3g} to {last:.3g}: a lower lr than {_peak(log):.2g}"
    return (
        f"the loss was flat from the first step ({first:.3g} to {last:.3g} in {len(log)} steps): "
        f"another lr than {_peak(log):.2g}, first three times as high, then more epochs"
    )


def _late(log: Log) -> str:
    first, last = map(fmean, _tenths(log, "loss"))
    if last < FITTED * first:
        return (
            f"the loss fell from {first:.3g} to {last:.3g}, on the training videos alone: more videos or augmentation"
        )
    return f"the loss was still falling at the end ({first:.3g} to {last:.3g} in {len(log)} steps): more epochs"


def _spread(log: Log) -> float:
    """Return the deviation of the early losses, from batch to batch."""
    first, _ = _tenths(log, "loss")
    return stdev(first) if len(first) > 1 else 0.0


def _peak(log: Log) -> float:
    return max(row["lr"] for row in log)
