"""`pytest --reelbench-suite` in a process of its own, as another project's CI runs it; its JSON and its gate."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from reelbench import reports
from reelbench.errors import UserError
from reelbench.spec import Case, Clip

from .examples import measured

SUITE = """\
from reelbench.spec import *
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
        # A worker of pytest-xdist tells so in its environment, and pytest-benchmark measures nothing there.
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_XDIST")}
        environment = {**kept, "OMP_NUM_THREADS": str(threads), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
        return subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True)

    return command


@pytest.mark.slow  # a pytest of its own that imports torch and measures
def test_a_suites_latency_cases_are_benchmarks(run, tmp_path: Path):
    done = run("-p", "pytest_benchmark.plugin", "--reelbench-suite", "mine.py", "--reelbench-device", "cpu",
               "--benchmark-json=out.json", "-s", "-p", "noting", *QUICK, threads=3)  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed, 1 skipped" in done.stdout
    assert "threads: 3" in done.stdout
    stored = json.loads((tmp_path / "out.json").read_text())
    assert stored["reelbench"]["threads"] == 3
    [found] = stored["benchmarks"]
    assert found["param"] == "vivit/micro-cpu-fp32-eager"
    assert found["fullname"] == "reelbench::test_latency[vivit/micro-cpu-fp32-eager]"
    assert Case.from_json(found["extra_info"]["case"]).model == "vivit/micro"
    assert found["stats"]["median"] > 0
    assert found["stats"]["rounds"] >= 2


@pytest.mark.slow  # pytests of their own that import torch
def test_a_suite_that_does_not_exist_and_a_missing_library_are_told(run):
    done = run("-p", "pytest_benchmark.plugin", "--reelbench-suite", "quik")
    assert done.returncode == 2
    assert "unknown suite 'quik': did you mean 'quick'" in done.stdout + done.stderr
    without = run("--reelbench-suite", "quick")
    assert without.returncode == 4
    assert "needs pytest-benchmark" in without.stderr


@pytest.mark.slow  # two pytests of their own that import torch and measure
@pytest.mark.parametrize(("latency", "code"), [(1e-6, 1), (1e6, 0)])
def test_a_gate_holds_a_run_against_the_results_of_a_suite(run, tmp_path: Path, latency: float, code: int):
    stored = tmp_path / "stored.json"
    reports.write([measured(latency, model="vivit/micro", samples=(latency,) * 3)], "benchmark", stored)
    done = run("-p", "pytest_benchmark.plugin", "--reelbench-suite", "mine.py", "--reelbench-device", "cpu",
               f"--benchmark-compare={stored}", "--benchmark-compare-fail=median:50%", *QUICK)  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    assert ("Performance has regressed" in done.stdout + done.stderr) == bool(code)


def test_results_are_shown_by_pytest_benchmark(tmp_path: Path):
    results = [measured(7.0, samples=(6.0, 7.0, 9.0)), measured(1.0, name="params")]
    [path] = reports.write(results, "benchmark", tmp_path / "out.json")
    command = [sys.executable, "-m", "pytest_benchmark", "compare", str(path), "--columns=median", "--csv=out.csv"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "out.csv").read_text().splitlines()[1:] == [
        "reelbench::test_latency[tsm/micro-cpu-fp32-eager],0.007"
    ]
    with pytest.raises(UserError, match="no case has measured its latency"):
        reports.render(results[1:], "benchmark")


def test_a_benchmark_is_named_by_what_latency_depends_on():
    case = Case(model="tsm/micro", clip=Clip(frames=4, stride=2, size=32), mode="compile", channels_last=True)
    assert case.benchmark == "tsm/micro-4x2x32-cpu-fp32-compile-channels_last"


def test_without_the_option_a_projects_tests_are_its_own(run):
    done = run()
    assert "1 failed" in done.stdout
    assert "test_own" in done.stdout
