"""The bottleneck of each case in sentences: the slowest part from files to logits, and launch overhead at batch 1."""

from __future__ import annotations

from collections.abc import Sequence

from ..result import Result
from ._table import Cell, Column, Table, by_case, printable

LAUNCHING = 0.1  # launch-bound fraction of the latency below which the device counts as the bottleneck


def sentences(results: Sequence[Result]) -> list[str]:
    """Return the bottleneck sentences: of `end_to_end`, and of latencies with a device-side time."""
    machines = {r.machine for r in results}
    return [
        f"{r.case.label}{f' on {r.machine}' if len(machines) > 1 else ''}: {sentence}"
        for r in results
        for sentence in _of(r)
    ]


def table(results: Sequence[Result]) -> Table:
    """Return the bottleneck sentences as a table, a row each."""
    limits = Column(name="limit", header="limit", numeric=False)
    rows = [(r, [Cell(text=printable(sentence))]) for r in results for sentence in _of(r)]
    return by_case("What limits each case", [limits], rows, "")


def _of(result: Result) -> list[str]:
    return [sentence for sentence in (result.details.get("limit"), _launching(result)) if sentence]


def _launching(result: Result) -> str:
    """Return a sentence on how much of the latency is launch overhead, and its remedy; "" if not measured."""
    host, device, share = (
        result.metrics.get(name) for name in ("latency_ms", "latency_device_ms", "launch_bound_fraction")
    )
    if host is None or device is None or share is None:
        return ""
    configuration = f"{result.case.precision}, {result.case.mode.replace('_', ' ')}"
    timing = f"{host.value:.3g} ms a clip for the host, {device.value:.3g} ms on the device ({configuration})"
    if share.value < LAUNCHING:
        return f"The device limits the latency: {timing}."
    remedy = "" if result.case.mode == "cuda_graphs" else "; a CUDA graph spares it"
    return f"Launching limits the latency: {timing}; {share.value:.0%} of it is launch-bound{remedy}."
