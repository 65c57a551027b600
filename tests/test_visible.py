"""The ranks get the GPUs that CUDA_VISIBLE_DEVICES names, in its order, by number or by UUID."""

from __future__ import annotations

import base64
import json
import os
import subprocess

import pytest
from reelbench.errors import UserError
from reelbench.harness.training import launcher

SHOWN = "import os; os.write(1, '{LOCAL_RANK} {CUDA_VISIBLE_DEVICES}\\n'.format(**os.environ).encode())"


def world(line: list[str]) -> dict[str, list]:
    """What DeepSpeed's launcher is told to start."""
    (told,) = [word.removeprefix("--world_info=") for word in line if word.startswith("--world_info=")]
    return json.loads(base64.urlsafe_b64decode(told))


def test_the_launcher_is_given_the_first_of_the_numbers(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3, 5,0")
    line = launcher.command(["--data", "x"], ranks=2, device="cuda")
    assert world(line) == {"localhost": ["3", "5"]}
    assert line[-2:] == ["--data", "x"]
    assert "CUDA_VISIBLE_DEVICES" not in launcher.environment("cuda")


@pytest.mark.slow  # ranks through the launcher
@pytest.mark.parametrize(
    "names",
    [["GPU-8932f937-d72c-4106", "GPU-1"], pytest.param(["MIG-0b1c2d3e-4f50-5161"], marks=pytest.mark.exhaustive)],
)
def test_uuids_and_the_order_reach_the_ranks_as_they_are(monkeypatch, tmp_path, names):
    (tmp_path / "shown.py").write_text(SHOWN)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", ",".join([*names, "-1", "GPU-2"]))
    line = launcher.command([], ranks=len(names), device="cuda", module="shown")
    outside = {**launcher.environment("cuda"), "DS_ACCELERATOR": "cpu", "PYTHONPATH": str(tmp_path)}
    said = subprocess.run(line, env=outside, capture_output=True, text=True, timeout=120, check=True).stdout
    assert sorted(said.splitlines()) == [f"{rank} {','.join(names)}" for rank in range(len(names))]


def test_without_the_variable_or_on_a_cpu_the_ranks_are_counted(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    assert world(launcher.command([], ranks=2, device="cpu")) == {"localhost": [0, 1]}
    assert launcher.environment("cpu")["CUDA_VISIBLE_DEVICES"] == "3"
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert world(launcher.command([], ranks=2, device="cuda")) == {"localhost": [0, 1]}


def test_a_hostfile_is_left_alone(monkeypatch, tmp_path):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    line = launcher.command([], ranks=2, device="cuda", hostfile=tmp_path / "hosts")
    assert "deepspeed.launcher.runner" in line
    assert line[line.index("--hostfile") + 1] == str(tmp_path / "hosts")


def test_more_ranks_than_gpus_are_refused(monkeypatch):
    monkeypatch.setitem(os.environ, "CUDA_VISIBLE_DEVICES", "0,-1,1")
    with pytest.raises(UserError, match="2 ranks, but CUDA_VISIBLE_DEVICES=0,-1,1 names 1 GPUs"):
        launcher.command([], ranks=2, device="cuda")
