"""The device's own time of a step, on a simulated card: launches cost the host, kernels the device, side by side."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from reelbench import models
from reelbench.harness import metrics
from reelbench.harness.measuring import device_time
from reelbench.harness.measuring.timing import Budget
from reelbench.harness.metrics import latency
from reelbench.reports import _summary
from reelbench.result import Metric, Result
from reelbench.spec import Case

BUDGET = Budget(min_seconds=0.0, max_seconds=0.5)
CPU = torch.device("cpu")


class Card:
    """A queue of at most `depth` kernels: the host runs ahead of the device until it is full. Times in seconds."""

    def __init__(self, depth: int = 1024) -> None:
        self.host, self.depth = 0.0, depth
        self.ends = [0.0]

    def spin(self, seconds: float) -> None:
        self.launch(0.0, seconds)

    def launch(self, host: float, device: float) -> None:
        self.host += host
        if len(self.ends) > self.depth:
            self.host = max(self.host, self.ends[-self.depth])
        self.ends.append(max(self.ends[-1], self.host) + device)

    def mark(self) -> SimpleNamespace:
        at = max(self.ends[-1], self.host)
        return SimpleNamespace(
            at=at, query=lambda: at <= self.host, elapsed_time=lambda other: 1e3 * (other.at - at)
        )  # fmt: skip

    def wait(self) -> None:
        self.host = max(self.host, self.ends[-1])


def test_launch_gaps_are_no_device_time():
    """Two events around an eager step of many small kernels would tell the host's launching, three times as much."""
    card = Card()

    def step() -> None:
        for _ in range(700):
            card.launch(host=10e-6, device=3e-6)

    first = card.mark()
    step()
    assert first.elapsed_time(card.mark()) == pytest.approx(7.0, abs=0.1)
    found = device_time.times(step, card, BUDGET)
    assert len(found) >= 6
    assert found == pytest.approx([2.1e-3] * len(found))


def test_a_step_of_large_kernels_takes_what_it_takes():
    card = Card()
    found = device_time.times(lambda: card.launch(host=1e-5, device=5e-2), card, BUDGET)
    assert found == pytest.approx([5e-2] * len(found))


@pytest.mark.parametrize("kernels", [700, 3000])
def test_a_step_that_waits_or_overflows_the_queue_is_not_timed_so(kernels):
    """Either way the device ran empty, or may have: such a time is none."""
    card = Card()

    def step() -> None:
        for number in range(kernels):
            card.launch(host=10e-6, device=3e-6)
            if kernels == 700 and number == 350:
                card.wait()

    assert device_time.times(step, card, BUDGET) == []


def test_what_cannot_be_queued_is_captured(monkeypatch):
    card, clip = Card(), torch.zeros(1)

    def forward(given: torch.Tensor) -> torch.Tensor:
        for _ in range(3000):
            card.launch(host=10e-6, device=3e-6)
        return given

    def replayed(forward):
        return lambda given: card.launch(host=10e-6, device=9e-3) or given

    monkeypatch.setattr(device_time, "Queue", lambda device: card)
    monkeypatch.setattr(device_time, "Replayed", replayed)
    found, told = device_time.forward_times(forward, clip, BUDGET)
    assert found == pytest.approx([9e-3] * len(found))
    assert told == device_time.CAPTURED

    def cannot(forward):
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(device_time, "Replayed", cannot)
    assert device_time.forward_times(forward, clip, BUDGET) == ([], "")


def subject() -> metrics.Subject:
    variant = models.find("vivit/micro")
    return metrics.Subject(
        model=models.build("vivit/micro").eval(), case=Case(model="vivit/micro"), clip=variant.clip,
        views=variant.views, device=CPU, num_classes=8, videos=8, open_stream=lambda **_: None,
    )  # fmt: skip


def test_host_device_and_what_is_launch_bound_are_reported(monkeypatch):
    made, host = subject(), Metric(value=4.0, unit="ms", convention="batch 1")
    monkeypatch.setattr(device_time, "forward_times", lambda *_: ([1e-3] * 10, device_time.QUEUED))
    found = latency._on_device(made, made.example(1), host)
    assert found["latency_device_ms"].value == pytest.approx(1.0)
    assert found["latency_device_ms"].convention == "batch 1, queued behind a busy kernel"
    assert found["launch_bound_fraction"].value == pytest.approx(0.75)
    result = Result(case=made.case, status="ok", started="", seconds=1.0, metrics={"latency_ms": host, **found})
    assert _summary.limits([result]) == [
        "vivit/micro: Launching limits the latency: 4 ms a clip for the host, 1 ms on the device (fp32, eager); "
        "75% of it is launch-bound; a CUDA graph spares it."
    ]
    monkeypatch.setattr(device_time, "forward_times", lambda *_: ([3.9e-3] * 10, device_time.QUEUED))
    result.metrics.update(latency._on_device(made, made.example(1), host))
    assert _summary.limits([result])[0].startswith("vivit/micro: The device limits the latency: 4 ms")


def test_a_device_time_that_cannot_be_told_is_not_printed(monkeypatch):
    made = subject()
    monkeypatch.setattr(device_time, "forward_times", lambda *_: ([], ""))
    assert latency._on_device(made, made.example(1), Metric(value=4.0, unit="ms")) == {}
    assert made.notes["not_available"] == ["latency on the device"]
