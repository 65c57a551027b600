"""Ways to run a forward pass: each gives the model's logits, or says that this machine cannot."""

from __future__ import annotations

import time
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from reelbench import models
from reelbench.errors import UnsupportedError, UserError
from reelbench.harness import metrics
from reelbench.harness.measuring import execution
from reelbench.harness.measuring.execution import TOLERANCE, Float8Linear, cast, in_precision, prepare, quantize
from reelbench.harness.measuring.timing import Budget, Timing
from reelbench.harness.metrics import mfu, throughput, view_budget
from reelbench.harness.suites.case import find_checkpoint, make_subject, subject_of
from reelbench.pipelines.index import Index
from reelbench.spec import Case

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _fp32():
    yield
    torch.set_float32_matmul_precision("highest")


def subject(model: str = "tsm/micro", **fields) -> metrics.Subject:
    variant = models.find(model)
    torch.manual_seed(0)
    return metrics.Subject(
        model=models.build(model).eval(), case=Case(model=model, **fields), clip=variant.clip, views=variant.views,
        device=CPU, num_classes=variant.num_classes, videos=8, open_stream=lambda **_: None,
        budget=Budget(min_seconds=0.0, max_seconds=0.2),
    )  # fmt: skip


def difference(made: metrics.Subject) -> float:
    """How far the logits are from eager fp32, relative to their spread."""
    clip = made.example(2)
    with torch.inference_mode():
        expected = made.model(clip)
    return float((made.forward(clip).float() - expected).abs().max() / expected.std())


@pytest.mark.parametrize("model", ["tsm/micro", "video_swin/micro", "dualformer/micro", "vivit/micro"])
def test_channels_last_changes_the_layout_only(model):
    made = subject(model, channels_last=True)
    assert difference(made) < 1e-3
    weights = [p for p in made.model.parameters() if p.dim() in (4, 5) and min(p.shape[:2]) > 1 and p.shape[-1] > 1]
    assert all(not p.is_contiguous() for p in weights)


class Small(torch.nn.Module):
    """So small that compiling it takes seconds."""

    def __init__(self) -> None:
        super().__init__()
        self.head = torch.nn.Linear(3, 5)

    def forward(self, clip):
        return self.head(clip.mean((2, 3, 4)).sin())


@pytest.mark.slow  # generates and compiles C++
def test_a_compiled_model_gives_the_same_logits():
    made = subject("vivit/micro", mode="compile", metrics=("startup", "parameters"))
    made.model = Small().eval()
    found = metrics.measure(made)
    assert found["compile_s"].value > 0
    assert found["first_batch_s"].value >= found["compile_s"].value
    assert "compile" in found["compile_s"].convention
    assert difference(made) < 1e-3


def test_an_unknown_precision_is_not_taken_for_fp32():
    for call in (lambda: execution.training(CPU, "fp31"), lambda: execution.set_up("fp31", "eager", CPU)):
        with pytest.raises(UserError, match="unknown precision 'fp31'"):
            call()


MICROS = [name for name in models.names() if name.endswith("/micro")]


@pytest.mark.parametrize("precision", ["bf16", "fp16", "amp_bf16"])
@pytest.mark.parametrize("model", MICROS)
def test_half_precision_keeps_the_logits(model, precision):
    assert 0 < difference(subject(model, precision=precision)) < TOLERANCE[precision]


def seen_inside(made: metrics.Subject) -> tuple[torch.dtype, bool]:
    """What the head's weights are during a pass, and whether autocast is on."""
    seen = []

    def look(module, given):
        seen.append((module.weight.dtype, torch.is_autocast_enabled("cpu")))

    [head] = [m for m in made.model.modules() if isinstance(m, torch.nn.Linear) and m.out_features == made.num_classes]
    head.register_forward_pre_hook(look)
    made.forward(made.example(1))
    return seen[0]


def test_weights_are_cast_once_and_autocast_is_a_precision_of_its_own():
    assert seen_inside(subject(precision="bf16")) == (torch.bfloat16, False)
    assert seen_inside(subject(precision="fp16")) == (torch.float16, False)
    assert seen_inside(subject(precision="amp_bf16")) == (torch.float32, True)
    assert seen_inside(subject()) == (torch.float32, False)


def test_what_is_counted_and_trained_stays_in_fp32(monkeypatch):
    monkeypatch.setattr(mfu, "SIDE", {"cpu": 64})
    made = subject("vivit/micro", precision="bf16", metrics=("flops", "mfu", "train_step", "memory"), batch=2)
    found = metrics.measure(made)
    assert {p.dtype for p in made.model.parameters()} == {torch.float32}
    assert (
        found["gflops_view"].value == metrics.measure(subject("vivit/micro", metrics=("flops",)))["gflops_view"].value
    )
    assert "bf16 autocast" in found["forward_ms"].convention
    assert "fp32 weights that are counted included" in found["memory_resident_mib"].convention


def test_a_step_alone_sets_its_arithmetic(monkeypatch):
    """Nothing before it has: `step` may be a case's only metric."""
    with pytest.raises(UnsupportedError, match="tf32 needs a GPU"):
        metrics.measure(subject("vivit/micro", precision="tf32", metrics=("train_step",)))
    monkeypatch.setattr(execution, "_check", lambda *_: None)
    metrics.measure(subject("vivit/micro", precision="tf32", metrics=("train_step",)))
    assert torch.get_float32_matmul_precision() == "high"


def test_graphs_share_a_pool_and_bear_other_threads(monkeypatch):
    """The card is stubbed: what is captured for two batches, and how."""
    begun = []

    def graph(made, **options):
        begun.append(options)
        return nullcontext()

    pools = iter(["first", "second"])
    stream = SimpleNamespace(wait_stream=lambda other: None)
    fake = SimpleNamespace(
        Stream=lambda device: stream, current_stream=lambda device: stream, stream=lambda made: nullcontext(),
        CUDAGraph=lambda: SimpleNamespace(replay=lambda: None), graph_pool_handle=lambda: next(pools), graph=graph,
    )  # fmt: skip
    monkeypatch.setattr(torch, "cuda", fake)
    replayed = execution.Replayed(lambda clip: clip.mean(1))
    for batch in (1, 4, 1):
        assert len(replayed(torch.ones(batch, 3))) == batch
    assert begun == [{"pool": "first", "capture_error_mode": "thread_local"}] * 2


def test_an_8_bit_linear_layer_is_close_to_the_real_one():
    torch.manual_seed(0)
    linear, x = torch.nn.Linear(64, 48), torch.randn(2, 5, 64)
    found = Float8Linear(linear)(x).float()
    assert found.shape == (2, 5, 48)
    assert (found - linear(x)).abs().mean() < 0.05 * linear(x).abs().mean()


@pytest.mark.parametrize("name", [name for name in models.names() if name.endswith("/micro")])
def test_every_family_runs_in_8_bits(name):
    torch.manual_seed(0)
    clip, model = models.find(name).clip, models.build(name).eval()
    x = torch.randn(1, 3, clip.frames, clip.size, clip.size)
    found = in_precision(cast(model, "fp8"), "fp8", CPU)(x).float()
    with torch.inference_mode():
        expected = model(x)
    assert (found - expected).abs().max() < 0.5 * expected.std()


def test_quantising_leaves_out_what_the_kernels_cannot_take():
    model = torch.nn.Sequential(torch.nn.Linear(32, 64), torch.nn.ModuleList([torch.nn.Linear(64, 10)]))
    quantize(model)
    assert [type(m).__name__ for m in model.modules() if not list(m.children())] == ["Float8Linear", "Linear"]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"mode": "cuda_graphs"}, "cuda_graphs needs a GPU"),
        ({"precision": "tf32"}, "tf32 needs a GPU of compute capability 8.0"),
        ({"precision": "fp8"}, "fp8 needs a GPU of compute capability 8.9"),
    ],
)
def test_what_a_cpu_cannot_do_is_unsupported(fields, said):
    made = subject(**fields)
    with pytest.raises(UnsupportedError, match=said):
        prepare(made.model, made.case, CPU)


def test_a_mode_that_does_not_exist_is_refused():
    with pytest.raises(UserError, match="none of eager, compile"):
        Case(model="tsm/micro", mode="fast")  # type: ignore[arg-type]


@pytest.mark.slow  # measures several batches
def test_a_batch_sweep_is_kept_and_searched_for_once(monkeypatch):
    monkeypatch.setattr(throughput, "_room", lambda tried, batch: True)  # judged by the peak of the whole process
    made = subject("vivit/micro", metrics=("latency", "throughput", "mfu", "energy"))
    found = metrics.measure(made)
    sweep = made.notes["batch_sweep"]
    assert [row["batch"] for row in sweep][:3] == [1, 2, 4]
    assert made.notes["best_batch"] in [row["batch"] for row in sweep]
    frames = found["throughput_frames_s"].value / found["throughput_clips_s"].value
    assert frames == pytest.approx(made.clip.frames)
    assert found["mfu"].value > 0
    assert set(made.notes["metric_seconds"]) == {"latency", "throughput", "mfu", "energy"}
    assert made.timer.read()["measured"] > 0


@pytest.mark.parametrize("order", [("latency", "throughput"), ("throughput", "latency")])
def test_latency_and_throughput_of_one_clip_are_one_measurement_a_round(order):
    made = subject(metrics=order, batch=1)
    first, second = metrics.measure(made), metrics.measure(made)
    for found in (first, second):
        expected = [1e3 / ms for ms in found["latency_ms"].samples]
        assert found["throughput_clips_s"].samples == pytest.approx(expected)
    assert first["latency_ms"].samples != second["latency_ms"].samples


@pytest.mark.parametrize(
    ("seconds", "fitting", "tried", "best", "largest"),
    [
        ({1: 1.0, 2: 1.2, 4: 1.8, 8: 3.6}, 99, [1, 2, 4, 8], 4, None),  # 8 clips a second no oftener than 4
        ({1: 1.0, 2: 1.1, 4: 1.2, 8: 1.3, 12: 1.4, 10: 1.35, 11: 1.38}, 11, [1, 2, 4, 8, 10, 11], 11, 11),
        ({1: 1.0, 2: 2.0, 4: 4.0}, 99, [1, 2, 4], 1, None),  # nothing is gained: the first of equals
    ],
)
def test_the_search_for_a_batch_ends_where_more_does_not_pay_or_does_not_fit(
    monkeypatch, seconds, fitting, tried, best, largest
):
    def timed(made, batch, budget):
        if batch > fitting:
            raise torch.cuda.OutOfMemoryError("full")
        return Timing(host=[seconds[batch]] * 3, warm_up=0.0, calls=1, steady=True)

    monkeypatch.setattr(throughput, "_time", timed)
    monkeypatch.setattr(throughput, "_room", lambda tried, batch: True)
    made = subject("vivit/micro")
    assert throughput.best_batch(made) == best
    assert [row["batch"] for row in made.notes["batch_sweep"]] == tried
    assert made.notes.get("largest_batch") == largest


def test_a_training_step_is_split():
    made = subject("vivit/micro", metrics=("train_step",))
    before = [p.clone() for p in made.model.parameters()]
    found = metrics.measure(made)
    assert set(found) == {"forward_ms", "backward_ms", "optimizer_ms"}
    assert all(m.value > 0 and len(m.samples) == len(found["forward_ms"].samples) for m in found.values())
    assert all(torch.equal(a, b) for a, b in zip(before, made.model.parameters(), strict=True))
    assert not made.model.training
    assert "random clips" in found["forward_ms"].convention


@pytest.mark.slow  # decodes and trains
def test_a_training_step_waits_for_its_videos(tiny_synthetic):
    """The three parts and the wait of one loop; a batch of more videos than there are has no stream."""
    index = Index.load(tiny_synthetic["test"])
    made = make_subject(Case(model="vivit/micro", metrics=("train_step",)), index, None, [])
    made.budget = Budget(min_seconds=0.0, max_seconds=0.3)
    found = metrics.measure(made)
    assert set(found) == {"wait_ms", "forward_ms", "backward_ms", "optimizer_ms"}
    wait = found["wait_ms"]
    assert len(wait.samples) == len(found["forward_ms"].samples)
    assert wait.value > 0
    assert "fed by the dali decoder, 2 workers, mean" in wait.convention
    spent = made.timer.read()
    assert min(spent.values()) >= 0 < spent["start"]
    made.case = Case(model="vivit/micro", metrics=("train_step",), batch=len(index) + 1)
    assert "wait_ms" not in metrics.measure(made)


def test_the_wait_is_the_streams(monkeypatch):
    """On a clock that only the stream moves, by turns a tenth and three tenths of a second a batch."""
    now = 0.0

    class Slow:
        decoder = "slow"

        def epoch(self):
            nonlocal now
            for seconds in (0.1, 0.3) * 3:
                now += seconds
                yield SimpleNamespace(clip=torch.randn(2, 3, 8, 32, 32))

    monkeypatch.setattr(time, "perf_counter", lambda: now)
    made = subject("vivit/micro", metrics=("train_step",))
    made.open_training = lambda batch: nullcontext(Slow())
    made.budget = Budget(min_seconds=0.0, max_seconds=4.0)
    found = metrics.measure(made)
    assert found["wait_ms"].value == pytest.approx(200, abs=10)
    assert [found[f"{name}_ms"].value for name in ("forward", "backward", "optimizer")] == [0, 0, 0]
    assert made.timer.read()["start"] == pytest.approx(0.1)


def test_a_checkpoint_is_found_by_pattern_or_the_row_says_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.delenv("WEIGHTS", raising=False)
    with pytest.raises(UnsupportedError, match="set WEIGHTS to the folder that holds tsm.*"):
        find_checkpoint("$WEIGHTS/tsm.*")
    monkeypatch.setenv("WEIGHTS", str(tmp_path))
    with pytest.raises(UnsupportedError, match="nothing matches"):
        find_checkpoint("$WEIGHTS/tsm.*")
    (tmp_path / "tsm.pth").touch()
    assert find_checkpoint("$WEIGHTS/tsm.*") == tmp_path / "tsm.pth"
    (tmp_path / "tsm.pt").touch()
    with pytest.raises(UserError, match="matches 2 checkpoints"):
        find_checkpoint("$WEIGHTS/tsm.*")


def test_order_is_another_order():
    from reelbench.harness.metrics.frame_order import shuffled

    for frames in (2, 3, 8):
        order = shuffled(frames, seed=0)
        assert sorted(order.tolist()) == list(range(frames))
        assert frames == 2 or order.tolist() not in (list(range(frames)), list(range(frames))[::-1])


@pytest.mark.slow  # decodes and trains
@pytest.mark.exhaustive
def test_what_needs_videos_runs_on_them(tiny_synthetic, monkeypatch):
    """Decoding with the model behind it, the order of frames and the views, on a real index and the real pipeline."""
    monkeypatch.setattr(view_budget, "BUDGETS", ("1x1", "2x3"))
    index = Index.load(tiny_synthetic["test"])
    case = Case(
        model="vivit/micro", metrics=("accuracy", "frame_order", "view_budget", "end_to_end"), checkpoint="none"
    )
    variant, count = models.find(case.model), len(index.classes)
    model = models.build(case.model, num_classes=count).eval()
    assert variant.clip is not None
    made = subject_of(model, case, index, clip=variant.clip, views=variant.views, num_classes=count, log=[])
    made.budget = Budget(min_seconds=0.0, max_seconds=0.5)
    kept = []
    made.keep = kept.append
    told: dict[str, list[tuple[int, int]]] = {}
    made.report = lambda event: told.setdefault(event.phase, []).append((event.done, event.total))
    found = metrics.measure(made)
    assert {"top1", "top1_reversed", "top1_shuffled", "end_to_end_clips_s"} <= set(found)
    assert len(kept[0].label) == len(index)
    rows = made.notes["view_budget"]
    counts = [row["count"] for row in rows]
    assert counts == sorted(counts)
    assert {"1x1", "2x3"} <= {row["views"] for row in rows}
    assert rows[-1]["gflops_video"] == pytest.approx(rows[0]["gflops_video"] * counts[-1] / counts[0])
    orders = ("frame_order, reversed", "frame_order, shuffled")
    loops = ("accuracy", *orders, "view_budget, 1x1", "view_budget, 2x3")
    assert all(told[phase][-1] == (len(index), len(index)) for phase in loops)
    assert {"end_to_end", "end_to_end, decoder alone"} <= set(told)
    assert any(part in made.notes["limit"] for part in ("decoder", "model", "host", "bottleneck"))
