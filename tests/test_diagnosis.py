"""What a log says of a training that did not learn; the logs here are those of micros, thinned, or their limits."""

from __future__ import annotations

import pytest
from reelbench.harness.training.diagnosis import advice


def log(losses: list[float], *, lr: list[float] | float = 1e-3, norms: list[float] | None = None):
    rates = lr if isinstance(lr, list) else [lr] * len(losses)
    rows = [
        {"step": i, "loss": loss, "lr": rate, "wait": 0.01, "compute": 0.1}
        for i, (loss, rate) in enumerate(zip(losses, rates, strict=True))
    ]
    return [{**row, "grad_norm": norm} for row, norm in zip(rows, norms, strict=True)] if norms else rows


def falling(first: float, last: float, steps: int = 60) -> list[float]:
    return [first + (last - first) * i / (steps - 1) for i in range(steps)]


NOISE = [2.08 + 0.02 * (-1) ** i for i in range(60)]


@pytest.mark.parametrize(
    ("rows", "symptom", "remedy"),
    [
        (log(NOISE), "flat from the first step (2.08 to 2.08 in 60 steps)", "another lr than 0.001"),
        (log(NOISE, norms=[2.0] * 40 + [900.0] + [2.0] * 19), "grew from 2 to 9e+02 (step 40)", "clip_grad"),
        (log(falling(2.08, 9.0)), "rose from", "a lower lr than 0.001"),
        (log(NOISE, lr=falling(1e-5, 1e-3)), "still warming up at the last of 60 steps (1e-05 to 0.001)", "warmup"),
        (log(falling(2.1, 1.6)), "still falling at the end", "more epochs"),
        (log(falling(2.1, 0.3)), "on the training videos alone", "augmentation"),
        (log([2.08, 2.09]), "flat", "lr"),
    ],
)
def test_the_first_symptom_names_its_remedy(rows, symptom, remedy):
    line = advice(rows)
    assert symptom in line
    assert remedy in line
    assert "\n" not in line


def test_norms_that_grow_as_a_learning_run_does_are_no_explosion():
    assert "gradient" not in advice(log(NOISE, norms=falling(1.5, 12.0)))


def test_a_warm_up_that_ended_is_no_symptom():
    cosine = falling(1e-5, 1e-3, 20) + falling(1e-3, 0.0, 40)
    assert "flat" in advice(log(NOISE, lr=cosine))


def test_without_a_log_there_is_nothing_to_say():
    assert advice([]) == ""
