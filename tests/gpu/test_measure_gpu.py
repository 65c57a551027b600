"""What only a GPU can show: each way of running gives the logits, NVML is sampled, a full card ends no case."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from reelbench import models
from reelbench.harness import metrics
from reelbench.harness.measuring import machine
from reelbench.harness.measuring.execution import autocast, prepare
from reelbench.harness.measuring.timing import Budget
from reelbench.harness.metrics import throughput
from reelbench.spec import Case

pytestmark = pytest.mark.gpu

CUDA = torch.device("cuda")
MODEL = "video_swin/micro"


@pytest.fixture(autouse=True)
def _fp32():
    yield
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = False


def subject(**fields) -> metrics.Subject:
    variant = models.find(MODEL)
    torch.manual_seed(0)
    return metrics.Subject(
        model=models.build(MODEL).to(CUDA).eval(), case=Case(model=MODEL, device="cuda", **fields), clip=variant.clip,
        views=variant.views, device=CUDA, num_classes=variant.num_classes, videos=8, open_stream=lambda **_: None,
        budget=Budget(min_seconds=0.0, max_seconds=0.5),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "tolerance"),
    [
        ({}, 1e-3),
        ({"channels_last": True}, 1e-3),
        ({"mode": "cuda_graphs"}, 1e-3),
        ({"mode": "compile"}, 1e-2),
        ({"precision": "tf32"}, 0.05),
        ({"precision": "bf16"}, 0.2),
        ({"precision": "fp16"}, 0.05),
        ({"precision": "fp8"}, 0.5),
        ({"precision": "bf16", "mode": "cuda_graphs"}, 0.2),
    ],
)
def test_every_way_gives_the_models_logits(fields, tolerance):
    made = subject(**fields)
    if made.case.precision == "fp8" and torch.cuda.get_device_capability() < (8, 9):
        pytest.skip("the card has no 8-bit floating point")
    clip = made.example(2)
    with torch.inference_mode():
        expected = made.model(clip)
    for _ in range(2):  # a replayed graph must read its input anew
        found = made.forward(clip).float()
        assert (found - expected).abs().max() < tolerance * expected.std()
        clip = clip.flip(0)
        expected = expected.flip(0)


def test_a_replayed_graph_serves_every_batch():
    made = subject(mode="cuda_graphs")
    for batch in (1, 3, 1):
        clip = made.example(batch)
        with torch.inference_mode(), autocast(CUDA, "fp32"):
            torch.testing.assert_close(made.forward(clip).clone(), made.model(clip), atol=1e-3, rtol=1e-3)


def test_device_time_lies_within_the_hosts():
    found = metrics.measure(subject(metrics=("latency",)))
    assert 0 < found["latency_device_ms"].value <= found["latency_ms"].value
    assert "CUDA events" in found["latency_device_ms"].convention


def test_a_full_card_ends_the_search_with_the_largest_batch(monkeypatch):
    """A process that may have little of the card finds its largest batch by halving, and goes on measuring."""
    made = subject(metrics=("throughput", "memory"))
    monkeypatch.setattr(throughput, "WORTH", 0.0)  # go on until memory ends
    monkeypatch.setattr(throughput, "LARGEST", 4096)
    real = made.example

    def hungry(batch: int) -> torch.Tensor:
        torch.empty(batch * 2**27, device=CUDA, dtype=torch.uint8)
        return real(batch)

    made.example = hungry  # type: ignore[method-assign]
    torch.cuda.set_per_process_memory_fraction(4 * 2**30 / torch.cuda.get_device_properties(CUDA).total_memory)
    try:
        found = metrics.measure(made)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert found["throughput_clips_s"].value > 0
    assert 16 <= made.notes["largest_batch"] < 32
    assert found["memory_reserved_mib"].value >= found["memory_allocated_mib"].value > 0


def test_energy_states_the_idle_power():
    made = subject(batch=8, metrics=("energy",))
    found = metrics.measure(made)
    assert found["energy_j_clip"].value > 0
    assert found["energy_j_video"].value == pytest.approx(found["energy_j_clip"].value * made.views.count)
    assert f"idle power of {made.notes['idle_w']:.0f} W" in found["energy_j_clip"].convention
    assert made.notes["busy_w"] > 0


def test_watching_samples_clocks_and_temperature():
    a = torch.randn(4096, 4096, device=CUDA)
    with machine.watch(CUDA) as found:
        for _ in range(200):
            a = (a @ a).clamp(-1, 1)
        torch.cuda.synchronize()
    low, middle, high = found["sm_clock_mhz"]
    assert 0 < low <= middle <= high
    assert 10 < found["temperature_c"][1] < 110
    assert isinstance(found["disturbed"], list)
    assert found["other_users"] >= 0


def test_fp8_leaves_the_counted_model_whole():
    made = subject(precision="fp8", metrics=("parameters", "flops"))
    if torch.cuda.get_device_capability() < (8, 9):
        pytest.skip("the card has no 8-bit floating point")
    plain = metrics.measure(subject(metrics=("parameters", "flops")))
    prepare(made.model, made.case, CUDA)
    found = metrics.measure(made)
    assert {n: m.value for n, m in found.items()} == {n: m.value for n, m in plain.items()}
    assert dataclasses.replace(found["params"], value=0) == dataclasses.replace(plain["params"], value=0)
