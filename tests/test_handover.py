"""When DALI has its memory back: a GPU's streams are stubbed, DALI's memory is a tensor that is written to again."""

from __future__ import annotations

from contextlib import contextmanager

import pytest
import torch
from reelbench.pipelines import _handover


class Output:
    """A view as DALI hands it out: `as_tensor()` shares the memory, which DALI fills anew afterwards."""

    def __init__(self, memory: torch.Tensor) -> None:
        self.memory = memory

    def as_tensor(self) -> torch.Tensor:
        return self.memory


class Stream:
    """A stream that remembers what was done on it, and when it was waited for."""

    def __init__(self, log: list[str], name: str) -> None:
        self.log, self.name = log, name

    def synchronize(self) -> None:
        self.log.append(f"wait for {self.name}")


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Put a GPU's streams in place, and list what happens on them."""
    said: list[str] = []

    @contextmanager
    def on(stream: Stream):
        said.append(f"on {stream.name}")
        yield
        said.append(f"off {stream.name}")

    def device() -> None:
        raise AssertionError("the whole device is waited for: DALI's work on the next batches too")

    monkeypatch.setattr(torch.cuda, "stream", on)
    monkeypatch.setattr(torch.cuda, "synchronize", device)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: Stream(said, "training"))
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda _, stream: said.append(f"used on {stream.name}"))
    monkeypatch.setattr(_handover, "_side_stream", lambda: Stream(said, "side"))
    return said


@pytest.mark.parametrize("views", [1, 3])
def test_a_batch_outlives_the_memory_it_came_in(log: list[str], views: int):
    memory = [torch.full((2, 3, 4, 5, 5), float(view)) for view in range(views)]
    clip = _handover.to_torch([Output(part) for part in memory], on_gpu=True)
    for part in memory:
        part.fill_(-1)  # DALI's next batch, while the consumer has not yet begun
    assert clip.shape == (2 * views, 3, 4, 5, 5)
    assert clip[:, 0, 0, 0, 0].tolist() == [float(view) for _ in range(2) for view in range(views)]


def test_only_the_copy_is_waited_for(log: list[str]):
    _handover.to_torch([Output(torch.zeros(1, 3, 2, 4, 4))], on_gpu=True)
    assert log == ["on side", "off side", "wait for side", "used on training"]


def test_on_a_cpu_nothing_is_copied():
    memory = torch.zeros(1, 3, 2, 4, 4)
    assert _handover.to_torch([Output(memory)], on_gpu=False).data_ptr() == memory.data_ptr()
