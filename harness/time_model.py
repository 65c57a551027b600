"""`reelbench time`: parameters, FLOPs and latency of one model, without a suite or a results folder."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from .. import address, models
from ..metric_table import quantity
from ..reports._table import column
from ..result import Metric
from ..result import machine as name_of_machine
from ..spec import Arithmetic, Case, Clip, Device, Mode, Views
from . import api
from .measuring import environment
from .suites import case as cases

METRICS = ("parameters", "flops", "latency")


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What to time: a model at an address, on clips of `frames` of `size` x `size`, by default its own.

    Latency is at batch 1; with `batch` > 0 throughput at that batch is measured too. The other fields are those of a
    `Case`.
    """

    model: str
    frames: int | None = None
    size: int | None = None
    batch: int = 0
    device: Device = "cpu"
    precision: Arithmetic = "fp32"
    mode: Mode = "eager"
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Timed:
    """What was measured, under which conditions: `machine` is the CPU's or GPU's name, `threads` are torch's."""

    asked: Asked
    clip: Clip
    views: Views
    machine: str
    threads: int
    metrics: dict[str, Metric]

    def to_json(self) -> str:
        """Return conditions and numbers as one JSON object; samples are left out."""
        found = dataclasses.asdict(self)
        asked = {name: value for name, value in found.pop("asked").items() if name not in ("frames", "size")}
        for number in found["metrics"].values():
            del number["samples"], number["rounds"]
        return json.dumps({**asked, **found, "torch": torch.__version__}, indent=1, default=sorted)

    def to_text(self) -> str:
        """Return a line of conditions, a line for each number with its interval, and what makes them doubtful."""
        asked, mode = self.asked, self.asked.mode.replace("_", " ")
        shape = f"{self.clip.frames} frames of {self.views.size or self.clip.size}²"
        lines = [
            f"{address.label(asked.model)}: {shape}, {asked.precision}, {mode}, on {asked.device}",
            f"{self.machine}, {self.threads} thread{'s' * (self.threads > 1)}, torch {torch.__version__}",
            *(self._line(name, number) for name, number in self.metrics.items()),
        ]
        doubts = dict.fromkeys(number.warning for number in self.metrics.values() if number.warning)
        return "\n".join((*lines, *doubts))

    def _line(self, name: str, number: Metric) -> str:
        row = column(quantity(name, number.unit, number.better))
        views = f"× {self.views}" if name == "gflops_view" else ""
        parts = (row.text(number.value), views, row.interval(number.low, number.high), row.unit)
        flags = f", {', '.join(sorted(number.flags)).replace('_', ' ')}" if number.flags else ""
        return f"{row.header:20}  {' '.join(filter(None, parts)):28}  ({number.convention}{flags})"


def time_model(asked: Asked) -> Timed:
    """Build the model, with random weights unless it comes with some, and measure it in this process.

    Raises UserError if there is no such model, it cannot take the clip, or the device lacks the precision or mode.
    """
    environment.fix_threads()
    clip, views = _input(asked)
    models.check_clip(asked.model, clip, asked.options)
    metrics = (*METRICS, "throughput") if asked.batch else METRICS
    case = Case(
        model=asked.model, metrics=metrics, clip=clip, views=views, batch=asked.batch, device=asked.device,
        precision=asked.precision, mode=asked.mode, options=asked.options,
    )  # fmt: skip
    model = models.build(asked.model, clip=clip, **asked.options).to(asked.device).eval()
    count = models.find(asked.model).num_classes
    found = api.measure_subject(cases.subject_of(model, case, None, clip=clip, views=views, num_classes=count, log=[]))
    here = environment.collect()
    name = name_of_machine(here, asked.device)
    return Timed(asked=asked, clip=clip, views=views, machine=name, threads=here["threads"], metrics=found)


def _input(asked: Asked) -> tuple[Clip, Views]:
    """Return the clip asked for, else the model's own, and the views; a size asked for is that of the views too."""
    changes = {"frames": asked.frames, "size": asked.size}
    variant = models.find(asked.model)
    given = {name: value for name, value in changes.items() if value is not None}
    if asked.size is not None:
        given["short_side"] = max(asked.size, variant.clip.short_side if variant.clip else 0)
    clip, views = models.choose_clip(asked.model, None, changes=given), variant.views
    return clip, views if asked.size is None else dataclasses.replace(views, size=None, short_side=None)
