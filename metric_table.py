"""The metric table: name, header, unit, kind and direction of every number that a suite measures.

    METRICS["latency"]                      # a metric of a case, implemented by harness/metrics/latency.py
    QUANTITIES["latency_ms"]                # a number that it emits, as reports, comparisons and plots show it
    quantity("my_clips_s", unit="clips/s")  # a user-defined number: its row is inferred from the unit

Standard library only. This is the only list of metrics and quantities: nothing else keeps one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from . import discover
from .errors import UserError

Kind = Literal["share", "count", "time", "rate", "memory", "energy", "fraction", "other"]
Better = Literal["", "higher", "lower"]


@dataclass(frozen=True, kw_only=True)
class MetricKind:
    """What a metric of a case needs: videos instead of random clips, trained weights instead of random ones.

    `interleaved` metrics are measured again in the rounds of `run --interleave`.
    """

    needs_videos: bool = False
    needs_weights: bool = False
    interleaved: bool = False


METRICS: dict[str, MetricKind] = {  # a plug-in's stands in its module, as KIND
    "startup": MetricKind(),
    "accuracy": MetricKind(needs_videos=True, needs_weights=True),
    "frame_order": MetricKind(needs_videos=True, needs_weights=True),
    "view_budget": MetricKind(needs_videos=True, needs_weights=True),
    "parameters": MetricKind(),
    "flops": MetricKind(),
    "logits": MetricKind(),
    "memory": MetricKind(),
    "train_memory": MetricKind(),
    "latency": MetricKind(interleaved=True),
    "frame_latency": MetricKind(),
    "throughput": MetricKind(interleaved=True),
    "mfu": MetricKind(),
    "train_step": MetricKind(needs_videos=True),
    "decode": MetricKind(needs_videos=True),
    "end_to_end": MetricKind(needs_videos=True),
    "data_stall": MetricKind(needs_videos=True),
    "energy": MetricKind(),
    "energy_decoded": MetricKind(needs_videos=True),
}


def metric(name: str) -> MetricKind:
    """Return the row of a metric, ours or a plug-in's (its `KIND`, if it has one).

    Raises UserError if there is no such metric, or its plug-in fails.
    """
    if name in METRICS:
        return METRICS[name]
    return getattr(discover.module("harness.metrics", name, "metric"), "KIND", MetricKind())


def stored_metric(name: str) -> MetricKind:
    """Return the row of a metric of stored results, whose plug-in need not be here."""
    try:
        return metric(name)
    except UserError:
        return MetricKind()


@dataclass(frozen=True, kw_only=True)
class Quantity:
    """One number that a metric emits. Reports show the stored value times `scale`, in `unit`.

    `decimals` None shows three significant digits. `kind`: a `share` is an accuracy in percent, a `count` is exact and
    deterministic, a `time` or a `rate` depends on the machine's state. `headline` quantities are printed when a case
    finishes.
    """

    name: str
    header: str
    kind: Kind
    unit: str = ""
    scale: float = 1.0
    decimals: int | None = None
    better: Better = ""
    headline: bool = False

    @property
    def timed(self) -> bool:
        """Whether it is a time or a rate, which a disturbed machine invalidates."""
        return self.kind in ("time", "rate")


def _share(name: str, header: str, *, headline: bool = False) -> Quantity:
    return Quantity(name=name, header=header, kind="share", unit="%", decimals=1, better="higher", headline=headline)


def _rate(name: str, header: str, unit: str = "clips/s", *, headline: bool = False) -> Quantity:
    return Quantity(name=name, header=header, kind="rate", unit=unit, better="higher", headline=headline)


def _time(name: str, header: str, unit: str = "ms", *, headline: bool = False) -> Quantity:
    return Quantity(name=name, header=header, kind="time", unit=unit, better="lower", headline=headline)


def _memory(name: str, header: str) -> Quantity:
    return Quantity(name=name, header=header, kind="memory", unit="MiB", better="lower")


# In the order of the columns.
_ROWS = (
    _share("top1", "top-1", headline=True),
    _share("top5", "top-5"),
    _share("mean_class_accuracy", "mean class"),
    _share("map", "mAP"),
    _share("top1_reversed", "top-1 reversed"),
    _share("top1_shuffled", "top-1 shuffled"),
    _share("map_reversed", "mAP reversed"),
    _share("map_shuffled", "mAP shuffled"),
    Quantity(name="params", header="params", kind="count", unit="M", scale=1e-6, better="lower"),
    Quantity(name="gflops_view", header="GFLOPs/view × views", kind="count", better="lower"),
    Quantity(name="gflops_video", header="GFLOPs/video", kind="count", better="lower"),
    Quantity(name="logits_deviation", header="logits off by", kind="other", unit="σ", better="lower"),
    _time("latency_ms", "latency", headline=True),
    _time("latency_p90_ms", "latency p90"),
    _time("latency_p99_ms", "latency p99"),
    _time("latency_device_ms", "latency on the device"),
    _time("latency_frame_ms", "latency of an online frame"),
    Quantity(name="launch_bound_fraction", header="launch-bound", kind="fraction", unit="%", scale=100, better="lower"),
    _rate("throughput_clips_s", "throughput", headline=True),
    _rate("throughput_frames_s", "throughput", "frames/s"),
    _rate("end_to_end_clips_s", "end to end"),
    _rate("achieved_tflops", "achieved", "TFLOP/s"),
    Quantity(name="mfu", header="MFU against a measured matmul", kind="fraction", unit="%", scale=100, better="higher"),
    _rate("train_clips_s", "training"),
    Quantity(
        name="scaling_efficiency", header="scaling over ranks", kind="fraction", unit="%", scale=100, better="higher"
    ),
    _memory("memory_allocated_mib", "allocated memory"),
    _memory("memory_reserved_mib", "reserved memory"),
    _memory("memory_process_mib", "process memory"),
    _memory("memory_resident_mib", "resident memory"),
    _memory("train_memory_mib", "training memory"),
    _memory("train_memory_checkpointed_mib", "training memory, activations computed twice"),
    _time("step_ms", "training step"),
    _time("wait_ms", "wait"),
    _time("forward_ms", "forward"),
    _time("backward_ms", "backward"),
    _time("optimizer_ms", "optimizer"),
    _time("first_batch_s", "first batch", "s"),
    _time("compile_s", "compiling", "s"),
    Quantity(name="data_wait_fraction", header="data wait", kind="fraction", unit="%", scale=100, better="lower"),
    _rate("decode_clips_s", "decoding", headline=True),
    Quantity(name="energy_j_clip", header="energy", kind="energy", unit="J/clip", better="lower"),
    Quantity(name="energy_j_video", header="energy", kind="energy", unit="J/video", better="lower"),
    Quantity(
        name="energy_decoded_j_video", header="energy with decoding", kind="energy", unit="J/video", better="lower"
    ),
    Quantity(name="usd_1000_videos", header="1,000 videos", kind="other", unit="$", better="lower"),
)
QUANTITIES: dict[str, Quantity] = {row.name: row for row in _ROWS}


def quantity(name: str, unit: str = "", better: Better = "") -> Quantity:
    """Return a number's row; for one that the table lacks, a row inferred from its unit and `better`.

    For a number in the table, `unit` and `better` are ignored.
    """
    if name in QUANTITIES:
        return QUANTITIES[name]
    inferred = _by_unit(name, unit)
    return replace(inferred, better=better) if better else inferred


def _by_unit(name: str, unit: str) -> Quantity:
    if unit.endswith("/s"):
        return _rate(name, name, unit)
    if unit in ("s", "ms"):
        return _time(name, name, unit)
    if unit in ("KiB", "MiB", "GiB"):
        return Quantity(name=name, header=name, kind="memory", unit=unit, better="lower")
    if unit == "J" or unit.startswith("J/"):
        return Quantity(name=name, header=name, kind="energy", unit=unit, better="lower")
    return Quantity(name=name, header=name, kind="share" if unit == "%" else "other", unit=unit)
