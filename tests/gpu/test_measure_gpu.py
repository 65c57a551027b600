"""What only a GPU can show: each way of running gives the logits, NVML is sampled, a full card ends no case."""

from __future__ import annotations

import dataclasses
import threading
from statistics import median

import pytest
import torch
from reelbench import models
from reelbench.harness import metrics
from reelbench.harness.measuring import device_time, environment, execution, machine, nvml
from reelbench.harness.measuring.execution import TOLERANCE, Replayed, prepare
from reelbench.harness.measuring.timing import Budget
from reelbench.harness.metrics import throughput, train_memory
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
        ({"mode": "aot_inductor"}, 1e-2),
        ({"precision": "tf32"}, 0.05),
        ({"precision": "bf16"}, TOLERANCE["bf16"]),
        ({"precision": "fp16"}, TOLERANCE["fp16"]),
        ({"precision": "amp_bf16"}, TOLERANCE["amp_bf16"]),
        ({"precision": "amp_fp16"}, TOLERANCE["amp_fp16"]),
        ({"precision": "fp8"}, 0.5),
        ({"precision": "bf16", "mode": "cuda_graphs"}, TOLERANCE["bf16"]),
        ({"precision": "bf16", "mode": "compile"}, TOLERANCE["bf16"]),
    ],
)
def test_every_way_gives_the_models_logits(fields, tolerance):
    made = subject(**fields)
    if made.case.precision == "fp8" and torch.cuda.get_device_capability() < (8, 9):
        pytest.skip("the card has no 8-bit floating point")
    clip = made.example(2)
    with torch.inference_mode():  # before the first pass: a cast case leaves the whole model on the CPU
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
        with torch.inference_mode():
            torch.testing.assert_close(made.forward(clip).clone(), made.model(clip), atol=1e-3, rtol=1e-3)


def test_a_graph_is_captured_while_another_thread_allocates():
    """As a decoder's threads do: cudaMalloc in one of them would spoil a capture that forbids it to all."""
    stop, model = threading.Event(), models.build(MODEL).to(CUDA).eval()

    def allocate() -> None:
        while not stop.is_set():
            torch.empty(2**25, device=CUDA)
            torch.cuda.empty_cache()

    other = threading.Thread(target=allocate)
    other.start()
    try:
        replayed = Replayed(execution.in_precision(model, "fp32", CUDA))
        for batch in (1, 2, 4):
            clip = subject().example(batch)
            with torch.inference_mode():
                torch.testing.assert_close(replayed(clip).clone(), model(clip), atol=1e-3, rtol=1e-3)
    finally:
        stop.set()
        other.join()


@pytest.mark.parametrize("mode", ["eager", "cuda_graphs"])
def test_device_time_lies_within_the_hosts(mode):
    found = metrics.measure(subject(mode=mode, metrics=("latency",)))
    assert 0 < found["latency_device_ms"].value <= 1.02 * found["latency_ms"].value
    assert "queued behind a busy kernel" in found["latency_device_ms"].convention
    assert 0 <= found["launch_bound_fraction"].value < 1


def test_device_time_leaves_launching_out():
    """Hundreds of tiny kernels: queued together they take a part of what two events around launching them tell."""
    x = torch.ones(64, device=CUDA)

    def forward(clip: torch.Tensor) -> torch.Tensor:
        for _ in range(300):
            clip = clip + 1
        return clip

    queue = device_time.Queue(CUDA)
    forward(x)
    queue.wait()
    first = queue.mark()
    forward(x)
    last = queue.mark()
    queue.wait()
    found, told = device_time.forward_times(forward, x, Budget(min_seconds=0.0, max_seconds=0.5))
    assert told == device_time.QUEUED
    assert 0 < median(found) < first.elapsed_time(last) / 1e3


def test_replayed_graphs_report_their_pool():
    eager, graph = (metrics.measure(subject(mode=mode, metrics=("memory",))) for mode in ("eager", "cuda_graphs"))
    assert "memory_allocated_mib" in eager
    assert "memory_allocated_mib" not in graph
    assert "the graph's pool included" in graph["memory_reserved_mib"].convention


def test_a_step_in_tf32_alone_computes_in_it():
    metrics.measure(subject(precision="tf32", metrics=("train_step",)))
    assert torch.get_float32_matmul_precision() == "high"
    assert torch.backends.cudnn.allow_tf32


def test_a_cast_model_trains_and_counts_in_fp32_on_the_card():
    made = subject(precision="bf16", batch=2, metrics=("throughput", "flops", "mfu", "train_step"))
    found = metrics.measure(made)
    assert found["forward_ms"].value > 0
    assert {p.dtype for p in made.model.parameters()} == {torch.float32}


def test_nvml_knows_the_card_that_torch_computes_on():
    torch.zeros(1, device=CUDA)
    handle = nvml.handle(CUDA)
    assert handle is not None
    assert environment.gpus()
    assert set(nvml.look(handle, [])) == {"sm_clock_mhz", "temperature_c", "power_w", "reasons", "others"}


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
    if made.notes.get("not_available"):
        pytest.skip("the card, or this slice of it, has no energy counter")
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
    low, middle, high = found.get("sm_clock_mhz", (1, 1, 1))  # a slice tells none
    assert 0 < low <= middle <= high
    assert 10 < found.get("temperature_c", (50, 50, 50))[1] < 110
    assert isinstance(found["disturbed"], list)
    assert found.get("other_users", 0) >= 0  # a container with process numbers of its own tells none


def test_fp8_leaves_the_counted_model_whole():
    made = subject(precision="fp8", metrics=("parameters", "flops"))
    if torch.cuda.get_device_capability() < (8, 9):
        pytest.skip("the card has no 8-bit floating point")
    plain = metrics.measure(subject(metrics=("parameters", "flops")))
    prepare(made.model, made.case, CUDA)
    found = metrics.measure(made)
    assert {n: m.value for n, m in found.items()} == {n: m.value for n, m in plain.items()}
    assert dataclasses.replace(found["params"], value=0) == dataclasses.replace(plain["params"], value=0)


def test_checkpointing_saves_memory_of_a_training_step():
    found = train_memory.measure(subject(batch=32))
    assert found["train_memory_checkpointed_mib"].value < found["train_memory_mib"].value
