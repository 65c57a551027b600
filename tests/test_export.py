"""Exported models: the same logits, for any number of clips, in whatever format."""

from __future__ import annotations

import sys

import onnxruntime
import pytest
import torch
from reelbench import models
from reelbench.errors import UserError
from reelbench.harness import export
from safetensors.torch import save_model


def saved(name: str, folder, classes: int = 5) -> torch.nn.Module:
    torch.manual_seed(0)
    model = models.build(name, num_classes=classes).eval()
    save_model(model, str(folder / "w.safetensors"))
    return model


@pytest.mark.slow  # exports and runs every family
@pytest.mark.parametrize(
    "name",
    ["tsm/micro", *(pytest.param(n, marks=pytest.mark.exhaustive) for n in ("video_swin/micro", "dualformer/micro"))],
)
def test_a_program_gives_the_same_logits_for_any_number_of_clips(name, tmp_path):
    model = saved(name, tmp_path)
    said = export.export(name, tmp_path / "w.safetensors", tmp_path / "m.pt2", None)
    assert "logits within" in said
    shape = models.find(name).clip
    clip = torch.randn(5, 3, shape.frames, shape.size, shape.size)
    program = torch.export.load(tmp_path / "m.pt2").module()
    with torch.no_grad():
        torch.testing.assert_close(program(clip), model(clip), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("factor", "difference"), [(1.01, "1.0e-02"), (float("nan"), "nan")])
def test_a_program_that_differs_is_not_left_behind(tmp_path, monkeypatch, factor, difference):
    saved("tsm/micro", tmp_path)
    monkeypatch.setattr(
        export, "_program", lambda network, example, path: path.touch() or (lambda c: network(c) * factor)
    )
    with pytest.raises(UserError, match=f"logits differ from eager's by {difference}"):
        export.export("tsm/micro", tmp_path / "w.safetensors", tmp_path / "m.pt2", None)
    assert {p.name for p in tmp_path.iterdir()} == {"w.safetensors"}


def test_weights_are_consolidated_out_of_a_training_checkpoint(tmp_path):
    """The module of DeepSpeed's file is what was trained: the network inside its objective."""
    model = saved("tsm/micro", tmp_path)
    folder = tmp_path / "checkpoints" / "step_3"
    folder.mkdir(parents=True)
    (folder.parent / "latest").write_text("step_3")
    module = {f"network.{name}": value for name, value in model.state_dict().items()}
    torch.save({"module": module}, folder / "mp_rank_00_model_states.pt")
    export.export("tsm/micro", folder.parent, tmp_path / "out.safetensors", None)
    found = models.build("tsm/micro", num_classes=5, checkpoint=tmp_path / "out.safetensors")
    assert all(torch.equal(a, b) for a, b in zip(found.state_dict().values(), model.state_dict().values(), strict=True))


def test_an_unknown_format_is_told(tmp_path):
    saved("tsm/micro", tmp_path)
    with pytest.raises(UserError, match="unknown export format '.pth'"):
        export.export("tsm/micro", tmp_path / "w.safetensors", tmp_path / "m.pth", None)


def test_onnx_without_its_exporter_is_told(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(UserError, match="ONNX needs onnxscript: pip install onnxscript"):
        export.export("tsm/micro", tmp_path / "w.safetensors", tmp_path / "m.onnx", None)


@pytest.mark.slow  # exports and runs every family
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name == "tsm/micro" else [pytest.mark.exhaustive])
        for name in models.names()
        if name.endswith("/micro")
    ],
)
def test_onnx_gives_the_same_logits_for_any_number_of_clips(name, tmp_path):
    model = saved(name, tmp_path)
    export.export(name, tmp_path / "w.safetensors", tmp_path / "m.onnx", None)
    assert {p.name for p in tmp_path.iterdir()} == {"w.safetensors", "m.onnx"}
    shape = models.find(name).clip
    clip = torch.randn(5, 3, shape.frames, shape.size, shape.size)
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx", providers=["CPUExecutionProvider"])
    with torch.no_grad():
        found = torch.from_numpy(session.run(["logits"], {"clip": clip.numpy()})[0])
        torch.testing.assert_close(found, model(clip), rtol=1e-4, atol=1e-5)


class Untranslatable(torch.nn.Module):
    def forward(self, clip):
        return torch.linalg.eigvals(clip.mean((1, 2))).real


class Fixed(torch.nn.Linear):
    """Its code fixes the number of clips."""

    def forward(self, clip: torch.Tensor) -> torch.Tensor:
        return super().forward(clip.flatten(1)[:, :4].reshape(len(clip), 4))


class Branching(torch.nn.Linear):
    """Its code depends on what a clip shows."""

    def forward(self, clip: torch.Tensor) -> torch.Tensor:
        return super().forward(clip.flatten(1)[:, :4] if clip.sum() > 0 else -clip.flatten(1)[:, :4])


@pytest.mark.parametrize(("kind", "said"), [(Fixed, "use `clip.shape\\[0\\]`"), (Branching, "see torch.export")])
def test_a_model_that_torch_cannot_trace_is_told(tmp_path, monkeypatch, kind, said):
    monkeypatch.setattr(export.weights, "restore", lambda name, checkpoint, **_: kind(4, 2))
    with pytest.raises(UserError, match=rf"^torch cannot trace this model \(.*\): .*{said}"):
        export.export("tsm/micro", tmp_path / "w.safetensors", tmp_path / "m.pt2", None)
    assert not list(tmp_path.iterdir())


def test_a_model_that_onnx_has_no_operation_for_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(export.weights, "restore", lambda name, checkpoint, **_: Untranslatable())
    with pytest.raises(UserError, match=r"torch cannot translate this model to ONNX \(.*\): export it as .pt2"):
        export.export("tsm/micro", tmp_path / "w.safetensors", tmp_path / "m.onnx", None)
    assert not list(tmp_path.iterdir())
