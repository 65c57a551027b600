"""The ranks get the GPUs that CUDA_VISIBLE_DEVICES names, in its order, by number or by UUID."""

from __future__ import annotations

import os
import subprocess

import pytest
from deepspeed.launcher.runner import parse_resource_filter  # as it reads `--include`
from reelbench.errors import UserError
from reelbench.harness.training import engine

SHOWN = "import os; os.write(1, '{LOCAL_RANK} {CUDA_VISIBLE_DEVICES}\\n'.format(**os.environ).encode())"


def test_the_launcher_is_given_the_first_of_the_numbers(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3, 5,0")
    line = engine.command(["--data", "x"], ranks=2, device="cuda")
    assert "--num_gpus" not in line
    included = line[line.index("--include") + 1]
    assert parse_resource_filter({"localhost": list(range(8))}, include_str=included) == {"localhost": [3, 5]}
    assert line[-2:] == ["--data", "x"]
    assert "CUDA_VISIBLE_DEVICES" not in engine.environment("cuda")  # DeepSpeed would say that it ignores it


@pytest.mark.parametrize("names", [["GPU-8932f937-d72c-4106", "GPU-1"], ["MIG-0b1c2d3e-4f50-5161"], ["5", "3"]])
def test_uuids_and_the_order_reach_the_ranks_as_they_are(monkeypatch, tmp_path, names):
    (tmp_path / "shown.py").write_text(SHOWN)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", ",".join([*names, "-1", "GPU-2"]))
    line = engine.command([], ranks=len(names), device="cuda", module="shown")
    outside = {**engine.environment("cuda"), "DS_ACCELERATOR": "cpu", "PYTHONPATH": str(tmp_path)}
    said = subprocess.run(line, env=outside, capture_output=True, text=True, timeout=120, check=True).stdout
    assert sorted(said.splitlines()) == [f"{rank} {','.join(names)}" for rank in range(len(names))]


def test_without_the_variable_or_on_a_cpu_the_ranks_are_counted(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    assert "--num_gpus" in engine.command([], ranks=2, device="cpu")
    assert engine.environment("cpu")["CUDA_VISIBLE_DEVICES"] == "3"
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    line = engine.command([], ranks=2, device="cuda")
    assert line[line.index("--num_gpus") + 1] == "2"


def test_a_hostfile_is_left_alone(monkeypatch, tmp_path):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    line = engine.command([], ranks=2, device="cuda", hostfile=tmp_path / "hosts")
    assert "--include" not in line
    assert "--hostfile" in line


def test_more_ranks_than_gpus_are_refused(monkeypatch):
    monkeypatch.setitem(os.environ, "CUDA_VISIBLE_DEVICES", "0,-1,1")
    with pytest.raises(UserError, match="2 ranks, but CUDA_VISIBLE_DEVICES=0,-1,1 names 1 GPUs"):
        engine.command([], ranks=2, device="cuda")
