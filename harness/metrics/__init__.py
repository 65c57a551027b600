"""One file a metric. Each offers `measure(subject) -> dict[str, Metric]`, and is found by its file name.

A `Subject` is everything a metric may look at. A metric that this machine cannot measure returns `{}`: a number is
measured or it is not printed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from ... import discover
from ...result import Details, Metric
from ...spec import Case, Clip, Views
from ..events import Event, Report
from ..measuring import device_time, timing
from ..measuring.accuracy import Predictions, evaluate
from ..measuring.execution import prepare
from ..measuring.phases import PhaseTimer
from ..measuring.timing import Budget

SELDOM = 0.5  # seconds between two reports of one loop


@dataclass(kw_only=True)
class Subject:
    """A model ready to be measured: in eval mode, on its device, with the way to open its data.

    `open_stream` opens the test split of `videos` videos (see `pipelines.open`), `open_training` the same videos as
    training sees them, by the batch; `train_log` is the training's record a step. `budget` bounds each timing loop.
    Metrics share what they found in `notes`, which the result keeps; `keep` takes the predictions of the case's own
    protocol, for tests between models. `clock` tells where the time goes, `report` is told what is measured and how far
    that is.
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
    keep: Callable[[Any], None] = lambda predictions: None
    budget: Budget = Budget()
    notes: Details = field(default_factory=Details)
    timer: PhaseTimer = field(default_factory=PhaseTimer)
    report: Report = lambda event: None
    _seen: set[torch.Size] = field(default_factory=set, init=False)
    _told: float = field(default=0.0, init=False)

    @property
    def size(self) -> int:
        """Pixels of the side of a test view."""
        return self.views.size or self.clip.size

    @property
    def convention(self) -> str:
        """How the forward pass is run, such as `bf16, compile, channels last`."""
        mode = [] if self.case.mode == "eager" else [self.case.mode.replace("_", " ")]
        return ", ".join([self.case.precision, *mode, *(["channels last"] if self.case.channels_last else [])])

    def example(self, batch: int) -> Tensor:
        """Return random clips, N×3×T×H×W float32 on the subject's device."""
        return torch.randn(batch, 3, self.clip.frames, self.size, self.size, device=self.device)

    @cached_property
    def _execute(self) -> Callable[[Tensor], Tensor]:
        return prepare(self.model, self.case, self.device)

    def forward(self, clip: Tensor) -> Tensor:
        """Return logits N×classes under the case's precision and mode, without gradients."""
        if self.case.mode == "eager" or clip.shape in self._seen:
            return self._execute(clip)
        self._seen.add(clip.shape)
        with self.timer.phase("compile"):  # a shape that comes for the first time is compiled, or captured
            return self._execute(clip)

    def time(self, step: Callable[[], object], budget: Budget | None = None) -> timing.Timing:
        """Time a step; `notes` count the warm-ups that were cut short."""
        before = self.timer.read()["compile"]
        taken = timing.take(step, self.device, budget or self.budget)
        self.timer.move("warm_up", taken.warm_up - (self.timer.read()["compile"] - before))
        self.timer.move("measured", sum(taken.host))
        self.notes["warm_ups_cut_short"] = self.notes.get("warm_ups_cut_short", 0) + (not taken.steady)
        return taken

    def on_device(self, clip: Tensor) -> tuple[list[float], str]:
        """Return the device's own seconds of forward passes of a clip, and how they were told; none where untold."""
        with self.timer.phase("measured"):
            return device_time.forward_times(self.forward, clip, self.budget)

    def test(self, phase: str, forward: Callable[[Tensor], Tensor], views: Views) -> Predictions:
        """Test every video once under some views, by a forward pass from N×3×T×H×W to logits."""
        self._tell(phase, 0)
        with self.open_stream(batch=max(1, 32 // views.count), views=views) as stream:
            return evaluate(forward, stream, progress=lambda done: self._tell(phase, done), timer=self.timer)

    def batches(self, phase: str, stream: Any) -> Iterator[Any]:
        """Yield the batches of a test stream's epoch, on the clock, and tell how far it is."""
        for number, batch in enumerate(self.timer.batches(stream), 1):
            yield batch
            self._tell(phase, min(number * stream.batch, self.videos))

    def lacks(self, what: str) -> None:
        """Note what this device cannot tell: the report says so, instead of leaving the place empty without a word."""
        self.notes.setdefault("not_available", []).append(what)

    def _tell(self, phase: str, done: int) -> None:
        """Report the videos done: seldom enough for the loops that are timed."""
        if 0 < done < self.videos and time.perf_counter() - self._told < SELDOM:
            return
        self._told = time.perf_counter()
        self.report(Event(phase=phase, done=done, total=self.videos))


def measure(subject: Subject) -> Mapping[str, Metric]:
    """Measure every metric of the case; `subject.report` is told each one's name as it starts.

    They are measured in the case's order, but for the start-up, which only the first forward pass has.
    """
    found: dict[str, Metric] = {}
    for name in sorted(subject.case.metrics, key=lambda name: name != "startup"):
        subject.report(Event(phase=name))
        begin = time.perf_counter()
        with subject.timer.phase("start"):
            metric = discover.module("harness.metrics", name, "metric")
        found.update(metric.measure(subject))
        subject.notes.setdefault("metric_seconds", {})[name] = round(time.perf_counter() - begin, 3)
    return found
