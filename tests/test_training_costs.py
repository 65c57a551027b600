"""What a plan needs: memory of a training step, latency of an online frame, energy with decoding."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from reelbench import models
from reelbench.harness import metrics
from reelbench.harness.measuring import nvml
from reelbench.harness.measuring.timing import Budget
from reelbench.harness.metrics import energy_decoded, frame_latency, train_memory
from reelbench.spec import Case, Clip, Views
from torch.utils.checkpoint import checkpoint

CLIP = Clip(frames=8, size=32, short_side=32)


def subject(model: torch.nn.Module, clip: Clip = CLIP, **fields: Any) -> metrics.Subject:
    return metrics.Subject(
        model=model.eval(), case=Case(model="tsm/micro", **fields), clip=clip, views=Views(clips=2),
        device=torch.device("cpu"), num_classes=8, videos=4, open_stream=lambda **given: None,
        budget=Budget(min_seconds=0, max_seconds=0.01),
    )  # fmt: skip


def five(x: torch.Tensor) -> torch.Tensor:
    for _ in range(5):
        x = x.sin()
    return x


class Deep(torch.nn.Module):
    """Keeps twenty activations of 32 MB for the backward pass, or computes them twice."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(8, 1))
        self.checkpoint_activations = False

    def forward(self, clip):
        x = self.scale.expand(8, 1 << 20) * clip.mean()
        for _ in range(4):
            x = checkpoint(five, x, use_reentrant=False) if self.checkpoint_activations else five(x)
        return x.sum(1).expand(len(clip), -1)


@pytest.mark.exhaustive
@pytest.mark.slow  # training steps in processes of their own
def test_checkpointing_takes_less_memory_and_leaves_the_model_alone():
    model = Deep()
    found = train_memory.measure(subject(model, batch=3))
    saved = found["train_memory_mib"].value - found["train_memory_checkpointed_mib"].value
    assert saved > 200
    assert "batch 3" in found["train_memory_mib"].convention
    assert not model.checkpoint_activations
    assert model.scale.grad is None


def test_the_zoo_has_the_switch():
    for name in ("video_swin/micro", "vivit/micro", "mvit/micro", "timesformer/micro", "dualformer/micro"):
        assert any(hasattr(module, train_memory.SWITCH) for module in models.build(name).modules()), name


def test_a_model_that_cannot_checkpoint_has_one_number():
    model = torch.nn.Sequential(torch.nn.AdaptiveAvgPool3d(1), torch.nn.Flatten(), torch.nn.Linear(3, 8))
    assert list(train_memory.measure(subject(model))) == ["train_memory_mib"]
    assert train_memory.measure(subject(model, precision="fp8")) == {}


def test_a_frame_of_an_online_model_is_timed_alone(monkeypatch):
    model = models.build("tsm/mobilenetv2_online", num_classes=8)
    pushed: list[tuple[int, ...]] = []
    logits = model.frame_logits
    monkeypatch.setattr(
        model, "frame_logits", lambda images, shift: pushed.append(images.shape) or logits(images, shift)
    )
    found = frame_latency.measure(subject(model))
    assert found["latency_frame_ms"].value > 0
    assert {*pushed} == {(1, 3, 32, 32)}
    assert "one frame of 32²" in found["latency_frame_ms"].convention


@pytest.mark.parametrize(("name", "fields"), [("tsm/micro", {}), ("video_swin/micro", {})])
def test_a_model_that_does_not_stream_has_no_such_number(name, fields):
    assert frame_latency.measure(subject(models.build(name), **fields)) == {}


class Stream:
    """Two videos of two views in each batch, two batches in an epoch."""

    def epoch(self):
        for first in (0, 2):
            video = torch.tensor([first, first, first + 1, first + 1])
            yield SimpleNamespace(clip=torch.zeros(4, 3, 8, 32, 32), video=video)


def test_energy_with_decoding_is_of_whole_videos_after_the_first_batch(monkeypatch):
    counter = iter((100.0, 160.0))
    monkeypatch.setattr(nvml, "joules", lambda handle: next(counter))
    monkeypatch.setattr(energy_decoded, "WINDOW", -1.0)  # the first counted batch ends it
    model = torch.nn.Sequential(torch.nn.AdaptiveAvgPool3d(1), torch.nn.Flatten(), torch.nn.Linear(3, 8))
    spent, videos, seconds = energy_decoded.window(subject(model), Stream(), handle=None)
    assert (spent, videos) == (60.0, 2)
    assert seconds > 0


def test_without_a_gpu_there_is_no_energy():
    assert energy_decoded.measure(subject(torch.nn.Identity())) == {}
