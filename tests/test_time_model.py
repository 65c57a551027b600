"""`reelbench time`: one model measured without a suite, with its conditions and its doubts."""

from __future__ import annotations

import json

import pytest
from reelbench.harness import time_model
from reelbench.harness.measuring import machine

NET = """
import torch
from reelbench.models import Variant
from reelbench.spec import Clip, Views

class Net(torch.nn.Module):
    def __init__(self, num_classes=8):
        super().__init__()
        self.head = torch.nn.Linear(3, num_classes)

    def forward(self, clip):
        return self.head(clip.mean((2, 3, 4)))

VARIANTS = {
    "net": Variant(build=Net, clip=Clip(frames=4, size=32), num_classes=8, views=Views(clips=2, crops=3, size=64))
}
"""


@pytest.fixture
def net(tmp_path) -> str:
    (tmp_path / "mine.py").write_text(NET)
    return f"{tmp_path}/mine.py/net"


def test_a_model_of_ones_own_is_timed_and_leaves_no_folder(net, reelbench, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = reelbench("time", net, "--device", "cpu", "--format", "json")
    assert code == 0, err
    found = json.loads(out)
    assert found["metrics"]["params"]["value"] == 32
    latency = found["metrics"]["latency_ms"]
    assert latency["low"] <= latency["value"] <= latency["high"]
    assert "samples" not in latency
    assert (found["precision"], found["device"], found["threads"] > 0) == ("fp32", "cpu", True)
    assert "throughput_clips_s" not in found["metrics"]
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "__pycache__") == ["mine.py"]


@pytest.mark.slow  # times a model
def test_frames_size_and_batch_are_those_asked_for(net):
    asked = time_model.Asked(model=net, frames=6, size=300, batch=2)
    found = time_model.time_model(asked)
    assert (found.clip.frames, found.clip.size, found.views.size) == (6, 300, None)
    assert "batch 2" in found.metrics["throughput_clips_s"].convention
    assert "6 frames of 300²" in found.to_text()


def test_the_text_names_conditions_numbers_and_doubts(net, monkeypatch):
    monkeypatch.setattr(machine, "disturbances", lambda found, device: ["others used 80% of the cores"])
    text = time_model.time_model(time_model.Asked(model=net)).to_text()
    assert "4 frames of 64², fp32, eager, on cpu" in text
    assert "thread" in text.splitlines()[1]
    (latency,) = (line for line in text.splitlines() if line.startswith("latency  "))
    assert "machine disturbed" in latency
    assert text.count("disturbed: others used 80% of the cores") == 1
    (cost,) = (line for line in text.splitlines() if line.startswith("GFLOPs/view"))
    assert "× 2x3" in cost


def test_mistakes_are_told(net, reelbench):
    for arguments, said in (
        (("tsm/micra",), "did you mean 'tsm/micro'"),
        ((net, "--precision", "fp31"), "fp31"),
        ((net, "--format", "yaml"), "unknown format 'yaml'"),
        (("tsm/micro", "--option", "depht=3"), "unknown option of tsm/micro 'depht'"),
    ):
        code, _, err = reelbench("time", *arguments, "--device", "cpu")
        assert code == 2
        assert said in err
