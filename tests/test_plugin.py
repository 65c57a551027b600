"""`pytest --reelbench-suite` in a process of its own, as another project's CI runs it; its JSON and its gate."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SUITE = """\
from reelbench.harness.spec import *
CASES = Case(model='vivit/micro'), Case(model='vivit/micro', mode='cuda_graphs'), Case(model='tsm/micro', metrics=())
SUITE = Suite(name='mine', description='', cases=CASES)
"""
NOTING = """\
import torch
def pytest_runtest_teardown():
    print("threads:", torch.get_num_threads())
"""
QUICK = ["--benchmark-min-rounds=2", "--benchmark-max-time=0.05"]


@pytest.fixture
def run(tmp_path: Path):
    (tmp_path / "mine.py").write_text(SUITE)
    (tmp_path / "test_own.py").write_text("def test_own():\n    raise AssertionError\n")

    (tmp_path / "noting.py").write_text(NOTING)

    def command(*arguments: str, threads: int = 1) -> subprocess.CompletedProcess[str]:
        line = [sys.executable, "-m", "pytest", "-p", "reelbench.harness.pytest_plugin", *arguments]
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
        return subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True)

    return command


def test_a_suites_latency_cases_are_benchmarks(run, tmp_path: Path):
    done = run("-p", "pytest_benchmark.plugin", "--reelbench-suite", "mine.py", "--reelbench-device", "cpu",
               "--benchmark-json=out.json", "-s", "-p", "noting", *QUICK, threads=3)  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed, 1 skipped" in done.stdout
    assert "threads: 3" in done.stdout
    [found] = json.loads((tmp_path / "out.json").read_text())["benchmarks"]
    assert found["param"] == "vivit/micro-fp32-eager"
    assert found["stats"]["median"] > 0
    assert found["stats"]["rounds"] >= 2


def test_a_suite_that_does_not_exist_and_a_missing_library_are_told(run):
    done = run("-p", "pytest_benchmark.plugin", "--reelbench-suite", "quik")
    assert done.returncode == 4 or "did you mean 'quick'" in done.stdout + done.stderr
    assert "unknown suite 'quik'" in done.stdout + done.stderr
    without = run("--reelbench-suite", "quick")
    assert without.returncode == 4
    assert "needs pytest-benchmark" in without.stderr


def test_without_the_option_a_projects_tests_are_its_own(run):
    done = run()
    assert "1 failed" in done.stdout
    assert "test_own" in done.stdout
