"""The Python API: `import reelbench` and what it offers."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import reelbench
import torch
from reelbench.harness import api, eval
from reelbench.harness.training.job import Job

REFERENCE = Path(__file__).parents[1] / "reports" / "reference" / "cpu"
CLIP = reelbench.Clip(frames=4, size=32, short_side=32)


class Mine(torch.nn.Module):
    def __init__(self, classes: int = 8) -> None:
        super().__init__()
        self.head = torch.nn.Linear(3, classes)

    def forward(self, clip: torch.Tensor) -> torch.Tensor:
        return self.head(clip.mean((2, 3, 4)))


def test_the_import_is_instant_and_every_name_is_there():
    code = (
        "import sys; before = set(sys.modules); import reelbench\n"
        "new = {m.split('.')[0] for m in set(sys.modules) - before}\n"
        "assert new <= {'reelbench', *sys.stdlib_module_names}, new\n"
        "from reelbench import Case, Suite, UserError\n"
        "assert 'torch' not in sys.modules\n"
        "assert {*reelbench.__all__} <= {*dir(reelbench)}\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert all(getattr(reelbench, name) is not None for name in reelbench.__all__)
    with pytest.raises(AttributeError, match="no attribute 'mesure'"):
        reelbench.mesure  # noqa: B018


@pytest.mark.slow  # measures a model
def test_a_module_in_memory_is_measured_and_left_as_it_was():
    model = Mine().train()
    found = reelbench.measure(model, ("parameters", "flops"), clip=CLIP, device="cpu")
    assert found["params"].value == 32
    assert model.training
    named = reelbench.measure("tsm/micro", ("parameters",), device="cpu")
    assert named["params"].value == sum(p.numel() for p in reelbench.build("tsm/micro").parameters())


@pytest.mark.slow  # tests a module on videos
def test_a_module_in_memory_is_tested_on_videos(tiny_synthetic):
    found = reelbench.measure(Mine(), ("accuracy",), clip=CLIP, data=tiny_synthetic["val"], device="cpu")
    assert 0 <= found["top1"].value <= 100


@pytest.mark.parametrize(
    ("model", "options", "said"),
    [
        (Mine(), {}, "needs clip=Clip"),
        (Mine(), {"clip": CLIP, "metrics": ("startup",)}, "process of its own"),
        (Mine(), {"clip": CLIP, "metrics": ("decode",)}, "give data="),
        (torch.nn.Identity(), {"clip": CLIP}, r"\(1, 3, 4, 32, 32\)"),
        (Mine(), {"clip": CLIP, "metrics": ("latncy",)}, "did you mean 'latency'"),
        ("tsm/micra", {}, "did you mean 'tsm/micro'"),
    ],
)
def test_what_cannot_be_measured_is_told(model, options, said):
    with pytest.raises(reelbench.UserError, match=said):
        reelbench.measure(model, device="cpu", **options)
    assert isinstance(model, str) or model.training


def test_results_are_a_sequence_with_reports(tmp_path):
    found = reelbench.load_results(REFERENCE)
    assert len(found) == 7
    assert [result.status for result in found[:2]] == ["ok", "ok"]
    frame = found.to_pandas()
    assert list(frame["model"]) == [result.case.model for result in found]
    assert {"latency_ms", "latency_ms_low", "latency_ms_high"} <= set(frame.columns)
    assert frame["latency_ms"][0] == found[0].metrics["latency_ms"].value
    assert "tsm/micro" in found.report()
    assert (tmp_path / "page.html") in found.report("html", to=tmp_path / "page.html")
    assert "<table" in found._repr_html_()
    assert repr(found) == "Results(7 cases: 7 ok)"
    with pytest.raises(reelbench.UserError, match="is a picture"):
        found.report("figure")
    with pytest.raises(reelbench.UserError, match="holds no results.jsonl"):
        reelbench.load_results(tmp_path)


@pytest.mark.slow  # runs and compares models
def test_the_lines_of_the_readme_run(tmp_path, monkeypatch, capsys):
    readme = (REFERENCE.parents[2] / "README.md").read_text()
    (code,) = (part.partition("```")[0] for part in readme.split("```python\n") if part.startswith("import reelbench"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    shutil.copytree(REFERENCE, tmp_path / "runs" / "quick")
    exec(code, {})
    assert "Metric(value=" in capsys.readouterr().out
    assert (tmp_path / "report.html").exists()


def test_two_results_are_compared():
    found = reelbench.load_results(REFERENCE)
    same = reelbench.compare(REFERENCE, found)
    frame = same.to_pandas()
    assert set(frame["ratio"]) == {1.0}
    assert len(frame) == len(same)
    assert "Differences" in str(same)
    assert "<table" in same._repr_html_()


def test_the_options_are_those_of_the_command_line():
    own = {"model", "data", "recipe", "clip", "device"}
    assert {*api.TrainOptions.__annotations__} == {f.name for f in dataclasses.fields(Job)} - own
    own = {"model", "data", "checkpoint", "device"}
    assert {*api.EvaluateOptions.__annotations__} == {f.name for f in dataclasses.fields(eval.Evaluation)} - own
    with pytest.raises(reelbench.UserError, match="unknown option of train 'valdation': did you mean 'validation'"):
        reelbench.train("tsm/micro", "train.parquet", valdation="val.parquet")  # type: ignore[call-arg]


@pytest.mark.slow  # a training through the launcher
@pytest.mark.exhaustive
def test_a_model_is_trained_and_tested(tiny_synthetic, tmp_path):
    weights = reelbench.train(
        "tsm/micro", tiny_synthetic["train"], recipe=reelbench.Recipe(epochs=1, batch=12), device="cpu",
        validation=tiny_synthetic["val"], out=str(tmp_path / "run"), workers=1, decoder="software",
    )  # fmt: skip
    assert weights == tmp_path / "run" / "best.safetensors"
    found = reelbench.evaluate("tsm/micro", weights, tiny_synthetic["test"], device="cpu")
    assert found["top1"].convention
