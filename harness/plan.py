"""`reelbench plan`: how long a training would take and what it needs, from a minute's measurement on this machine.

The training step and the decoder are measured apart, on one device; what follows from them, from the recipe and from
the data is computed, and each assumption on the way is named.
"""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch

from .. import address, models
from ..errors import UserError
from ..pipelines.index import Index
from ..result import Metric
from ..spec import Arithmetic, Case, Views
from .measuring import environment
from .measuring.timing import Budget
from .metrics import Subject, train_memory, train_step
from .suites import case as cases
from .training import check, engine, objective
from .training.job import Job
from .training.schedule import total_steps

AHEAD = 4  # batches that the decoder may have ready
ON_CPU = 2  # videos of the step that is measured on a CPU, at most: its memory ends a process without a word
T = TypeVar("T")
PRECISION: dict[str, Arithmetic] = {"fp32": "fp32", "bf16": "amp_bf16", "fp16": "amp_fp16"}


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What was measured on one device, of a step on `batch` videos, in `seconds` in all.

    `compute_ms` are forward and backward pass, `update_ms` the optimizer; `decode_clips_s` is the decoder alone;
    `memory` has the peaks of `train_memory`.
    """

    batch: int
    seconds: float
    compute_ms: Metric
    update_ms: Metric
    decode_clips_s: Metric | None
    decoder: str
    memory: dict[str, Metric]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A job on `ranks` devices: `steps` of `micro` videos per device and accumulation step, and what was measured.

    `disk` are the bytes of its checkpoints and weights, at most, `free` those free in `job.out`.
    """

    job: Job
    ranks: int
    videos: int
    steps: int
    micro: int
    disk: int
    free: int
    measured: Measured
    threads: int

    @property
    def needed_clips_s(self) -> float:
        """The clips per second that one device's share of the data must be decoded with for the step not to wait."""
        return self.micro * self.job.recipe.accumulate / self._compute_s(self.measured.compute_ms.value)

    def _compute_s(self, milliseconds: float) -> float:
        """Return the seconds of a step that computes, given those of the measured batch."""
        clips = self.micro * self.job.recipe.accumulate
        return (milliseconds * clips / self.measured.batch + self.measured.update_ms.value) / 1e3

    def hours(self, milliseconds: float) -> float:
        """Return the hours of all steps, if the measured batch takes that long and decoding hides behind it."""
        decode = self.measured.decode_clips_s
        waiting = self.micro * self.job.recipe.accumulate / decode.value if decode else 0.0
        return self.steps * max(self._compute_s(milliseconds), waiting) / 3600


def plan(job: Job, ranks: int, seconds: float) -> Plan:
    """Measure a job's step and decoder for about `seconds` in all, and plan it on `ranks` devices like this one.

    Raises UserError as a training would that cannot begin, or if not even a batch of one fits into memory.
    """
    environment.fix_threads()
    models.check_clip(job.model, job.clip, job.options)
    index = Index.load(job.data)
    index.verify()
    recipe, micro = job.recipe, engine.micro_batch(job.recipe, ranks)
    if len(index) < recipe.batch:
        raise UserError(f"{job.data}: {len(index)} videos do not fill one batch of {recipe.batch}: lower --batch")
    checkpoint, weights, count = check.sizes(job, index)
    return Plan(
        job=job, ranks=ranks, videos=len(index), steps=total_steps(recipe, len(index)), micro=micro,
        disk=count * checkpoint + 2 * weights, free=_free(job.out), measured=_measure(job, index, micro, seconds),
        threads=torch.get_num_threads(),
    )  # fmt: skip


def _free(out: Path) -> int:
    """Return the bytes free where a folder is or will be."""
    return shutil.disk_usage(next(place for place in (out.absolute(), *out.absolute().parents) if place.exists())).free


def _measure(job: Job, index: Index, micro: int, seconds: float) -> Measured:
    begin = time.perf_counter()
    batch = micro if job.device == "cuda" else min(micro, ON_CPU)
    model = models.build(job.model, num_classes=len(index.classes), clip=job.clip, **objective.model_options(job)).to(
        job.device
    )

    def step(batch: int) -> tuple[Subject, dict[str, Metric], dict[str, Metric]]:
        made = _subject(job, index, model, batch, seconds)
        return made, train_memory.measure(made), train_step.measure(dataclasses.replace(made, open_training=None))

    made, memory, parts = largest_that_fits(batch, step)
    batch = made.case.batch
    compute = _sum(parts["forward_ms"], parts["backward_ms"])
    decode, decoder = _decode(made, batch, seconds / 2)
    return Measured(
        batch=batch, seconds=time.perf_counter() - begin, compute_ms=compute, update_ms=parts["optimizer_ms"],
        decode_clips_s=decode, decoder=decoder, memory=memory,
    )  # fmt: skip


def largest_that_fits(batch: int, step: Callable[[int], T]) -> T:
    """Return what `step` does with a batch, halved until it fits into memory. Raises UserError if not even 1 does."""
    while batch:
        try:
            return step(batch)
        except torch.cuda.OutOfMemoryError:
            batch //= 2
        torch.cuda.empty_cache()
    raise UserError("not even one video fits into this GPU's memory: try --checkpoint-activations, or a smaller clip")


def _subject(job: Job, index: Index, model: Any, batch: int, seconds: float) -> Subject:
    case = Case(
        model=job.model, data=str(job.data), metrics=("train_step", "train_memory"), recipe=job.recipe, clip=job.clip,
        options=job.options, batch=batch, device=job.device, precision=PRECISION[job.recipe.precision],
        workers=job.workers, decoder=job.decoder, seed=job.seed,
    )  # fmt: skip
    made = cases.subject_of(model, case, index, clip=job.clip, views=Views(), num_classes=len(index.classes), log=[])
    return dataclasses.replace(made, budget=Budget(max_seconds=seconds / 3, min_seconds=seconds / 6))


def _sum(*parts: Metric) -> Metric:
    """Return the sum of times; its bounds are the sums of theirs, which is no less than 95 %."""
    low, high = ([getattr(part, name) for part in parts] for name in ("low", "high"))
    return Metric(
        value=sum(part.value for part in parts), unit="ms", low=None if None in low else sum(low),
        high=None if None in high else sum(high), convention=parts[0].convention,
    )  # fmt: skip


def _decode(made: Subject, batch: int, seconds: float) -> tuple[Metric | None, str]:
    """Return the clips/s of the training stream alone, and what decodes; no number if there were too few batches.

    Batches come in bursts, and the first ones were decoded ahead: the rate is that of all later ones together.
    """
    assert made.open_training is not None
    clips, batches, begin, now = 0, 0, time.perf_counter(), 0.0
    with made.open_training(min(batch, made.videos)) as stream:
        decoder = stream.decoder
        while batches <= AHEAD or now - begin < seconds:
            for found in stream.epoch():
                now, batches = time.perf_counter(), batches + 1
                begin = now if batches <= AHEAD else begin
                clips += len(found.label) if batches > AHEAD else 0
                if batches > AHEAD and now - begin >= seconds:
                    break
    convention = f"{batches - AHEAD} batches of {batch}"
    return Metric(value=clips / (now - begin), unit="clips/s", convention=convention) if now > begin else None, decoder


def to_text(found: Plan) -> str:
    """Return the plan: what is computed, what was measured, and what is assumed."""
    job, measured, recipe = found.job, found.measured, found.job.recipe
    device = "GPU" if job.device == "cuda" else "CPU process"
    lines = [
        f"{address.label(job.model)} on {job.data}: {found.videos} videos, {recipe.epochs:g} epochs, {found.ranks} "
        f"{_several(device) if found.ranks > 1 else device}",
        f"steps       {found.steps} of {recipe.batch} videos: {found.micro} a {device}"
        + (f" in each of {recipe.accumulate} accumulation steps" if recipe.accumulate > 1 else ""),
        f"time        {_hours(found)}",
        *_memory(found, device),
        f"decoding    {_decoding(found, device)}",
        f"disk        {found.disk / 2**30:.3g} GiB at most, {job.keep} checkpoints kept (computed from the tensors); "
        f"{found.free / 2**30:.3g} GiB are free",
        f"measured for {measured.seconds:.0f} s on 1 {device} of this machine ({found.threads} threads): "
        f"{measured.compute_ms.convention}",
        *(f"assumed: {text}" for text in _assumptions(found, device)),
    ]
    return "\n".join(lines)


def _several(device: str) -> str:
    return f"{device}es" if device.endswith("s") else f"{device}s"


def _hours(found: Plan) -> str:
    compute = found.measured.compute_ms
    value = found.hours(compute.value)
    if compute.low is None or compute.high is None:
        return f"{_duration(value)} (no interval: too few steps in the time given)"
    low, high = (_duration(found.hours(bound)) for bound in (compute.low, compute.high))
    return f"{_duration(value)} [{low}, {high}]"


def _duration(hours: float) -> str:
    """Return hours as text, of what is shorter minutes or seconds."""
    if hours >= 1:
        return f"{hours:.3g} h"
    return f"{hours * 60:.3g} min" if hours >= 1 / 60 else f"{hours * 3600:.3g} s"


def _memory(found: Plan, device: str) -> list[str]:
    """Return a line for each measured peak, of the batch that was measured."""
    titles = {"train_memory_mib": "memory", "train_memory_checkpointed_mib": "            "}
    notes = {"train_memory_checkpointed_mib": " with --checkpoint-activations"}
    what = "" if found.job.device == "cuda" else ", resident, libraries included"
    return [
        f"{title:12}{found.measured.memory[name].value / 1024:.3g} GiB a {device} at {found.measured.batch} "
        f"videos{notes.get(name, '')}{what}"
        for name, title in titles.items()
        if name in found.measured.memory
    ]


def _decoding(found: Plan, device: str) -> str:
    rate = found.measured.decode_clips_s
    needed = f"the step takes {found.needed_clips_s:.3g} clips/s a {device}"
    if rate is None:
        return f"not measured: too few batches in the data; {needed}"
    limits = "decoding limits the training" if rate.value < found.needed_clips_s else "decoding is fast enough"
    workers = f"{found.measured.decoder} decoder, {found.job.workers} workers"
    return f"{rate.value:.3g} clips/s alone ({workers}), {needed}: {limits}"


def _assumptions(found: Plan, device: str) -> list[str]:
    """Return what was not measured, but that the figures depend on."""
    measured, said = found.measured, []
    if found.ranks > 1:
        said.append(f"{found.ranks} {_several(device)} scale at 100 %, decoding too: not measured")
    if measured.batch != found.micro:
        why = "it did not fit into memory" if found.job.device == "cuda" else "of a CPU's memory"
        said.append(f"time per video at a batch of {found.micro} is that at {measured.batch} ({why}): not measured")
    if found.job.recipe.optimizer != "adamw" or found.job.recipe.zero:
        said.append("the optimizer costs what AdamW without ZeRO does: not measured")
    if found.job.recipe.objective not in ("classify", "multilabel"):
        said.append(f"the objective {found.job.recipe.objective} costs what classification does: not measured")
    said.append("decoding and computing do not slow each other down; validation, checkpoints and start-up take no time")
    return said
