"""`reelbench plan`: what follows from a measurement, what was measured, and what is assumed."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from reelbench import models
from reelbench.errors import UserError
from reelbench.harness import plan as planning
from reelbench.harness.plan import Measured, Plan, to_text
from reelbench.harness.training.job import Job
from reelbench.result import Metric
from reelbench.spec import Recipe

MEASURED = Measured(
    batch=4, seconds=61.0, decoder="dali", update_ms=Metric(value=100, unit="ms"),
    compute_ms=Metric(value=400, unit="ms", low=380, high=440, convention="training step, batch 4"),
    decode_clips_s=Metric(value=100, unit="clips/s"),
    memory={
        "train_memory_mib": Metric(value=20480, unit="MiB"),
        "train_memory_checkpointed_mib": Metric(value=5120, unit="MiB"),
    },
)  # fmt: skip


def made(measured: Measured = MEASURED, **recipe) -> Plan:
    """8 GPUs with 4 videos in each of two accumulation steps: 0.9 s of computing for 8 videos a GPU."""
    chosen = dataclasses.replace(Recipe(batch=64, accumulate=2, epochs=30), **recipe)
    job = Job(
        model="video_swin/t", data=Path("train.parquet"), recipe=chosen, clip=models.choose_clip("video_swin/t", None),
        device="cuda",
    )  # fmt: skip
    return Plan(
        job=job, ranks=8, videos=64_000, steps=36_000, micro=4, disk=3 * 2**30, free=2**40, measured=measured, threads=8
    )


def test_hours_follow_from_the_step():
    found = made()
    assert found.hours(400) == pytest.approx(36_000 * 0.9 / 3600)
    assert found.needed_clips_s == pytest.approx(8 / 0.9)
    text = to_text(found)
    assert "36000 of 64 videos: 4 a GPU in each of 2 accumulation steps" in text
    assert "9 h [8.6 h, 9.8 h]" in text
    assert "20 GiB a GPU at 4 videos" in text
    assert "5 GiB a GPU at 4 videos with --checkpoint-activations" in text
    assert "decoding is fast enough" in text
    assert "3 GiB at most" in text
    assert "measured for 61 s on 1 GPU of this machine" in text
    assert "8 GPUs scale at 100 %, decoding too: not measured" in text


def test_a_slow_decoder_sets_the_time():
    slow = dataclasses.replace(MEASURED, decode_clips_s=Metric(value=4, unit="clips/s"))
    assert made(slow).hours(400) == pytest.approx(36_000 * 2 / 3600)
    assert "decoding limits the training" in to_text(made(slow))


def test_what_was_not_measured_is_named_or_left_out():
    less = dataclasses.replace(
        MEASURED, batch=2, decode_clips_s=None, memory={}, compute_ms=Metric(value=200, unit="ms")
    )
    text = to_text(made(less, optimizer="sgd"))
    assert "no interval" in text
    assert "\nmemory" not in text
    assert "decoding    not measured" in text
    assert "a batch of 4 is that at 2 (it did not fit into memory): not measured" in text
    assert "what AdamW without ZeRO does: not measured" in text


def test_a_batch_that_does_not_fit_is_halved():
    tried = []

    def step(batch: int) -> int:
        tried.append(batch)
        if batch > 3:
            raise torch.cuda.OutOfMemoryError("full")
        return batch

    assert planning.largest_that_fits(12, step) == 3
    assert tried == [12, 6, 3]
    with pytest.raises(UserError, match="not even one video fits"):
        planning.largest_that_fits(4, lambda batch: step(batch + 9))


@pytest.mark.slow  # measures a training
def test_a_plan_is_measured_on_this_machine(reelbench, tiny_synthetic, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = (
        "tsm/micro",
        "--data",
        tiny_synthetic["train"],
        "--batch",
        8,
        "--gpus",
        2,
        "--epochs",
        4,
        "--device",
        "cpu",
    )
    code, out, err = reelbench("plan", *given, "--seconds", 1, "--decoder", "software")
    assert code == 0, err
    assert "12 of 8 videos: 4 a CPU process" in out
    assert "software decoder, 2 workers" in out
    assert "time per video at a batch of 4 is that at 2" in out
    assert not list(tmp_path.iterdir())  # and it leaves nothing


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--batch", 64), "24 videos do not fill one batch of 64"),
        (("--batch", 8, "--gpus", 3), "does not divide over 3"),
    ],
)
def test_what_no_training_would_do_is_refused(reelbench, tiny_synthetic, options, said):
    code, _, err = reelbench("plan", "tsm/micro", "--data", tiny_synthetic["train"], *options, "--device", "cpu")
    assert code == 2
    assert said in err
