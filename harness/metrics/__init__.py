"""One file per metric, found by its file name, with `measure(subject: Subject) -> dict[str, Metric]`.

A metric that this machine cannot measure returns `{}`: a number is measured or it is not printed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from ... import discover
from ...errors import UserError
from ...result import Details, Metric
from ...spec import Case, Clip, Views
from ..events import Event, Report
from ..measuring import device_time, timing
from ..measuring.accuracy import Predictions, evaluate
from ..measuring.execution import prepare
from ..measuring.phases import PhaseTimer
from ..measuring.timing import Budget

SELDOM = 0.5  # least seconds between two progress reports of one loop


@dataclass(kw_only=True)
class Subject:
    """The model under test, in eval mode on its device, and everything else that a metric may use.

    `open_stream` opens the test split, of `videos` videos, in evaluation mode (see `pipelines.open`); `open_training`
    the same videos with the recipe's augmentation, given a batch size. `train_log` has one record per training step,
    with its `wait` and `compute` seconds; it is empty if the case was not trained. `views` are the case's or its
    model's. `groups` has the group of every video (see `Index.groups`). `budget` bounds each timing loop. `notes`
    become the result's `details`; `keep` stores the predictions under the case's own views. `timer` attributes time to
    phases, `report` receives progress events.
    """

    model: nn.Module
    case: Case
    clip: Clip
    views: Views
    device: torch.device
    num_classes: int
    videos: int
    open_stream: Callable[..., Any]
    open_training: Callable[[int], Any] | None = None
    train_log: list[dict[str, float]] = field(default_factory=list)
    groups: Sequence[str] = ()
    keep: Callable[[Any], None] = lambda predictions: None
    budget: Budget = Budget()
    notes: Details = field(default_factory=Details)
    timer: PhaseTimer = field(default_factory=PhaseTimer)
    report: Report = lambda event: None
    _seen: set[torch.Size] = field(default_factory=set, init=False)
    _reported: float = field(default=0.0, init=False)
    _one_clip: timing.Timing | None = field(default=None, init=False)

    @property
    def size(self) -> int:
        """Side of a test view, in pixels."""
        return self.views.size or self.clip.size

    @property
    def convention(self) -> str:
        """The configuration of the forward pass as text, such as `bf16, compile, channels last`."""
        mode = [] if self.case.mode == "eager" else [self.case.mode.replace("_", " ")]
        return ", ".join([self.case.precision, *mode, *(["channels last"] if self.case.channels_last else [])])

    def example(self, batch: int) -> Tensor:
        """Return `batch` random clips of a test view's size, N×3×T×H×W float32 on the subject's device."""
        return torch.randn(batch, 3, self.clip.frames, self.size, self.size, device=self.device)

    @cached_property
    def _execute(self) -> Callable[[Tensor], Tensor]:
        return prepare(self.model, self.case, self.device)

    def forward(self, clip: Tensor) -> Tensor:
        """Return logits N×classes under the case's precision and mode, without gradients, of a fp32 clip N×3×T×H×W.

        The clip is on the subject's device. With `cuda_graphs` the next call overwrites the logits. With a new shape, a
        mode other than eager compiles or captures first.
        """
        if self.case.mode == "eager" or clip.shape in self._seen:
            return self._execute(clip)
        self._seen.add(clip.shape)
        with self.timer.phase("compile"):  # the first pass of each input shape compiles, or captures a graph
            return self._execute(clip)

    def time(self, step: Callable[[], object], budget: Budget | None = None) -> timing.Timing:
        """Warm up and time a step; `notes` count warm-ups that hit their limit before the times settled."""
        before = self.timer.read()["compile"]
        taken = timing.take(step, self.device, budget or self.budget)
        compiled = self.timer.read()["compile"] - before
        self.timer.move("warm_up", max(0.0, taken.warm_up - compiled))  # two clocks, read one after the other
        self.timer.move("measured", sum(taken.host))
        self.notes["warm_ups_cut_short"] = self.notes.get("warm_ups_cut_short", 0) + (not taken.steady)
        return taken

    def time_one_clip(self) -> timing.Timing:
        """Return the timing of forward passes at batch 1, taken once for all metrics of a `measure`."""
        if self._one_clip is None:
            clip = self.example(1)
            self._one_clip = self.time(lambda: self.forward(clip))
        return self._one_clip

    def on_device(self, clip: Tensor) -> tuple[list[float], str]:
        """Return the device-side seconds of forward passes on a GPU, and the method; ([], "") if not measurable."""
        with self.timer.phase("measured"):
            return device_time.forward_times(self.forward, clip, self.budget)

    def test(self, phase: str, forward: Callable[[Tensor], Tensor], views: Views) -> Predictions:
        """Test every video under `views` with a forward pass from N×3×T×H×W to logits; `phase` names it in progress."""
        self._tell(phase, 0)
        with self.open_stream(batch=max(1, 32 // views.count), views=views) as stream:
            found = evaluate(forward, stream, progress=lambda done: self._tell(phase, done), timer=self.timer)
        return found.in_groups(self.groups) if self.groups else found

    def batches(self, phase: str, stream: Any) -> Iterator[Any]:
        """Yield the batches of a test stream's epoch, attributing its startup to a phase and reporting progress."""
        for number, batch in enumerate(self.timer.batches(stream), 1):
            yield batch
            self._tell(phase, min(number * stream.batch, self.videos))

    def lacks(self, what: str) -> None:
        """Record a quantity that this device cannot measure, so that reports list it as not available."""
        self.notes.setdefault("not_available", []).append(what)

    def _tell(self, phase: str, done: int) -> None:
        """Report the number of finished videos, rarely enough not to disturb timed loops."""
        if 0 < done < self.videos and time.perf_counter() - self._reported < SELDOM:
            return
        self._reported = time.perf_counter()
        self.report(Event(phase=phase, done=done, total=self.videos))


def measure(subject: Subject) -> Mapping[str, Metric]:
    """Measure every metric of the case and return their numbers by name; `subject.report` receives each metric's name.

    They are measured in the case's order, except `startup`, which needs the first forward pass and so comes first.
    """
    found: dict[str, Metric] = {}
    subject._one_clip = None  # a worker measures its subject in every round
    for name in sorted(subject.case.metrics, key=lambda name: name != "startup"):
        subject.report(Event(phase=name))
        begin = time.perf_counter()
        with subject.timer.phase("start"):
            metric = discover.module("harness.metrics", name, "metric")
        numbers = metric.measure(subject)
        if not isinstance(numbers, Mapping) or not all(isinstance(number, Metric) for number in numbers.values()):
            raise UserError(f"metric {name}: measure returns {numbers!r:.100}, not a dictionary of Metric by name")
        found.update(numbers)
        subject.notes.setdefault("metric_seconds", {})[name] = round(time.perf_counter() - begin, 3)
    return found
