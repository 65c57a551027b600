"""Exported models and int8 as execution modes: the same logits, nearly, or a line that says what is missing."""

from __future__ import annotations

import sys

import pytest
import torch
from reelbench import models
from reelbench.errors import UnsupportedError
from reelbench.harness import metrics
from reelbench.harness.measuring import execution, exported
from reelbench.harness.measuring.timing import Budget
from reelbench.harness.metrics import logits
from reelbench.spec import Case, Clip, Views

CPU = torch.device("cpu")


class Small(torch.nn.Module):
    """So small that exporting it takes seconds."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.head = torch.nn.Linear(3, 5)

    def forward(self, clip):
        return self.head(clip.mean((2, 3, 4)).sin())


def subject(model: torch.nn.Module | None = None, **fields) -> metrics.Subject:
    return metrics.Subject(
        model=(model or Small()).eval(), case=Case(model="tsm/micro", **fields), views=Views(),
        clip=Clip(frames=2, size=8, short_side=8), device=CPU, num_classes=5, videos=0, open_stream=lambda **_: None,
        budget=Budget(min_seconds=0, max_seconds=0.01),
    )  # fmt: skip


def same_logits(mode: str, shapes: tuple[int, ...]) -> None:
    made = subject(mode=mode, batch=3)
    found = logits.measure(made)["logits_deviation"]
    assert found.value < 1e-4
    assert mode.replace("_", " ") in found.convention
    for clips in shapes:  # each shape has a program of its own, and an earlier result stays as it was
        first, second = made.example(clips), made.example(clips)
        kept = made.forward(first)
        made.forward(second)
        with torch.inference_mode():
            torch.testing.assert_close(kept, made.model(first), rtol=1e-4, atol=1e-5)
    assert made.timer.read()["compile"] > 0


@pytest.mark.slow  # exports a model
def test_onnx_runtime_gives_the_same_logits():
    same_logits("onnxruntime", (1, 3))


@pytest.mark.slow  # generates and compiles C++
@pytest.mark.exhaustive
def test_a_compiled_package_gives_the_same_logits():
    same_logits("aot_inductor", (3,))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"mode": "tensorrt"}, "tensorrt needs a GPU"),
        ({"mode": "onnxruntime", "precision": "bf16"}, "onnxruntime runs fp32 here, not bf16"),
        ({"mode": "aot_inductor", "precision": "amp_bf16"}, "not amp_bf16"),
    ],
)
def test_what_cannot_run_is_told_before_anything_is_measured(fields, said):
    made = subject(**fields)
    with pytest.raises(UnsupportedError, match=said):
        made.forward(made.example(1))


def test_a_missing_package_is_told_in_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UnsupportedError, match="onnxruntime needs onnxruntime: pip install onnxruntime"):
        exported.check("fp32", "onnxruntime", CPU)


def test_int8_is_no_gpus(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    with pytest.raises(UnsupportedError, match="int8 runs on a CPU"):
        execution.set_up("int8", "eager", torch.device("cuda"))


class Untranslatable(torch.nn.Module):
    def forward(self, clip):
        return torch.linalg.eigvals(clip.mean((1, 2))).real


def test_a_model_without_an_onnx_form_is_unsupported():
    made = subject(Untranslatable(), mode="onnxruntime")
    with pytest.raises(UnsupportedError, match="cannot translate this model to ONNX"):
        made.forward(made.example(1))


MICROS = [name for name in models.names() if name.endswith("/micro")]
FIRST = [name if name == "vivit/micro" else pytest.param(name, marks=pytest.mark.exhaustive) for name in MICROS]


@pytest.mark.parametrize("name", FIRST)
def test_int8_moves_the_logits_a_little_and_keeps_the_fp32_weights(name):
    variant = models.find(name)
    torch.manual_seed(0)
    made = metrics.Subject(
        model=models.build(name).eval(), case=Case(model=name, precision="int8"), clip=variant.clip,
        views=variant.views, device=CPU, num_classes=8, videos=0, open_stream=lambda **_: None,
    )  # fmt: skip
    found = logits.measure(made)["logits_deviation"].value
    assert 0 < found < 0.3
    assert {p.dtype for p in made.model.parameters()} == {torch.float32}
    assert logits.measure(made)["logits_deviation"].value == found


def test_eager_fp32_has_nothing_to_be_compared_with():
    assert logits.measure(subject()) == {}
    assert "logits_deviation" in logits.measure(subject(channels_last=True))
