"""A suite in real child processes: rows of every ending, resumed, killed without losing a finished row."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from reelbench import reports
from reelbench.harness.suites import interleave, ledger, process, sweep
from reelbench.pipelines.index import Index
from reelbench.result import Result
from reelbench.spec import Case, Recipe, Suite

FAST = Case(model="tsm/micro", metrics=("parameters", "flops", "memory"))


@pytest.fixture
def data(tiny_synthetic: dict[str, Path]) -> str:
    return str(tiny_synthetic["test"].parent)


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def suite(*cases: Case) -> Suite:
    return Suite(name="test", description="", cases=cases)


def run(made: Suite, out: Path, **options) -> list[Result]:
    return sweep.sweep(made, out, device="cpu", **options)[0]


@pytest.mark.slow  # a training through the launcher, and every metric
def test_a_case_is_trained_measured_and_traceable(data, tmp_path):
    recipe = Recipe(epochs=3, batch=8, crop="random", flip=0.0)
    metrics = ("parameters", "flops", "memory", "latency", "throughput", "decode", "data_stall", "energy", "accuracy")
    [found] = run(suite(dataclasses.replace(FAST, data=data, metrics=metrics, recipe=recipe)), tmp_path)
    assert found.status == "ok", found.error
    measured = found.metrics
    assert {"params", "gflops_view", "gflops_video", "memory_resident_mib", "latency_ms"} <= set(measured)
    assert {"throughput_clips_s", "decode_clips_s", "data_wait_fraction", "step_ms", "top1", "top5"} <= set(measured)
    assert not {"energy_j_clip", "memory_allocated_mib"} & set(measured)  # a CPU has neither
    assert len(measured["latency_ms"].samples) >= 3
    assert measured["top1"].low <= measured["top1"].value <= measured["top1"].high
    assert 0 <= measured["data_wait_fraction"].value <= 1
    assert found.details["train"]["steps"] == 9
    assert _adds_up(found.details["time_breakdown"])
    assert found.details["time_breakdown"]["training"] > found.details["train"]["seconds"]
    assert found.environment["packages"]["torch"]
    assert (tmp_path / "logs" / f"{found.case_id}.log").exists()
    assert (tmp_path / "environment.json").exists()
    assert {row.model for row in found.published} >= {"tsm/r50_8f"}


@pytest.mark.slow  # a training of its own, through the launcher
@pytest.mark.exhaustive
def test_the_ledger_names_the_videos_that_training_and_testing_passed_over(data, tmp_path):
    spoilt = shutil.copytree(data, tmp_path / "data")
    broken = [Index.load(spoilt / f"{split}.parquet")[1].path for split in ("train", "test")]
    for path in broken:
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 0xFF
        path.write_bytes(content)
    recipe = Recipe(epochs=1, batch=8, crop="random", flip=0.0)
    case = dataclasses.replace(FAST, data=str(spoilt), metrics=("accuracy",), recipe=recipe)
    [found] = run(suite(case), tmp_path / "out")
    assert found.status == "ok", found.error
    assert [path for path, _ in found.details["passed_over"]] == [str(broken[0])]
    assert [path for path, _ in found.details["broken"]] == [str(broken[1])]
    assert "1 broken skipped" in found.metrics["top1"].convention


@pytest.mark.slow  # five cases, each in a process of its own
def test_every_ending_is_a_row_and_only_what_failed_runs_again(data, tmp_path):
    cases = (
        dataclasses.replace(FAST, data=data),
        dataclasses.replace(FAST, data=data, checkpoint=str(tmp_path / "none.pth")),
        dataclasses.replace(FAST, data=data, seed=1, time_limit=0.2),
    )
    found = run(suite(*cases), tmp_path / "out")
    assert [r.status for r in found] == ["ok", "failed", "timeout"]
    assert "none.pth" in found[1].error
    assert "limit of 0 s" in found[2].error
    again = run(suite(*cases[:1]), tmp_path / "out")
    assert again == found[:1]
    [fresh] = run(suite(*cases[:1]), tmp_path / "out", fresh=True)
    assert fresh.started >= found[0].started
    assert fresh.seconds != found[0].seconds


@pytest.mark.parametrize(("limit", "status"), [(0.1, "timeout"), (60.0, "failed")])
def test_a_case_that_ends_well_after_its_limit_was_late(tmp_path, monkeypatch, limit, status):
    """On a busy machine it ends between the limit and the look at how it ended."""
    start = subprocess.Popen
    monkeypatch.setattr(
        process.subprocess,
        "Popen",
        lambda line, **pipes: start([sys.executable, "-c", "import time; time.sleep(1)"], **pipes),
    )
    child = process.Child("case", [], tmp_path / "log")
    assert list(child.events(limit)) == []
    assert child.exit_status(limit)[0] == status
    child.close()


def _adds_up(spent: dict[str, float]) -> bool:
    """Whether the parts are the wall time, each part's rounding allowed for, and none is negative."""
    parts = {name: seconds for name, seconds in spent.items() if name != "wall"}
    return min(parts.values()) >= 0 and abs(sum(parts.values()) - spent["wall"]) < 0.001 * len(parts)


@pytest.mark.slow  # three cases, each in a process of its own
@pytest.mark.exhaustive
def test_the_time_of_every_case_is_accounted_for(data, tmp_path):
    """One that is measured, one that fails and one that is killed; the line sums what was measured just now."""
    cases = (
        dataclasses.replace(FAST, data=data, metrics=("startup", "flops", "memory", "latency")),
        dataclasses.replace(FAST, data=data, checkpoint=str(tmp_path / "none.pth")),
        dataclasses.replace(FAST, data=data, seed=1, time_limit=0.2),
    )
    results, measured = sweep.sweep(suite(*cases), tmp_path / "out", device="cpu")
    spent = [result.details["time_breakdown"] for result in results]
    assert all(map(_adds_up, spent))
    assert all(spent[0][name] > 0 for name in ("start", "warm_up", "counting", "measured", "rest"))
    assert spent[1]["measured"] == 0 < spent[1]["start"]
    assert spent[2]["lost"] == spent[2]["wall"]
    assert measured == results
    again, now = sweep.sweep(suite(cases[0]), tmp_path / "out", device="cpu")
    assert again == results[:1]
    assert now == []
    assert reports.time_breakdown(measured).startswith(f"measured {spent[0]['measured']:.0f} s of ")
    assert reports.time_breakdown(now) == "nothing was measured: every case had been finished"


@pytest.mark.slow  # two cases, each in a process of its own
def test_a_native_crash_costs_one_row(data, tmp_path, monkeypatch):
    """The child is killed as the system does it when memory runs out, and as a broken decoder does."""
    real = subprocess.Popen

    def kill_with(number: int):
        def start(line, **options):
            process = real(line, **options)
            process.send_signal(number)
            return process

        return start

    for number, status, said in ((signal.SIGKILL, "oom", "memory"), (signal.SIGSEGV, "failed", "SIGSEGV")):
        monkeypatch.setattr(process.subprocess, "Popen", kill_with(number))
        [found] = run(suite(dataclasses.replace(FAST, data=data)), tmp_path / status)
        assert found.status == status
        assert said in found.error
        monkeypatch.undo()


@pytest.mark.slow  # two runs in processes of their own
def test_killed_with_9_the_run_goes_on_where_it_was(data, tmp_path):
    """The sweep itself is killed in its second case; the finished row stays and the case's process does not live on."""
    file, out = tmp_path / "two.py", tmp_path / "out"
    file.write_text(
        "from reelbench.spec import *\n"
        f"FAST = Case(model='tsm/micro', metrics=('parameters',), data={data!r})\n"
        f"SLOW = Case(model='tsm/micro', data={data!r}, metrics=('parameters', 'latency', 'throughput', 'decode'))\n"
        "SUITE = Suite(name='two', description='', cases=(FAST, SLOW))\n"
    )
    line = [sys.executable, "-m", "reelbench.harness.cli", "run", str(file), "--out", str(out), "--device", "cpu"]
    process = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while len(ledger.read(out)) < 1 and process.poll() is None:
        time.sleep(0.1)
    time.sleep(1)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert len(ledger.read(out)) == 1
    kept = ledger.read(out)[0]
    deadline = time.monotonic() + 30
    while _children_of_runs(out) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not _children_of_runs(out)
    done = subprocess.run(line, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "1 of 2 cases are already finished" in done.stderr
    assert ledger.read(out)[0] == kept
    assert [r.status for r in ledger.read(out)] == ["ok", "ok"]
    assert (out / "report.html").exists()


def _children_of_runs(out: Path) -> list[int]:
    import psutil

    return [p.pid for p in psutil.process_iter(["cmdline"]) if str(out) in " ".join(p.info["cmdline"] or ())]


@pytest.mark.exhaustive
@pytest.mark.slow  # cases in processes of their own
def test_interleaved_cases_are_timed_in_rounds(data, tmp_path):
    """Two cases, two rounds: samples are tagged with their round, and the rest comes from the pass alone."""
    timed = dataclasses.replace(FAST, data=data, metrics=("parameters", "memory", "latency"))
    cases = timed, dataclasses.replace(timed, model="video_swin/micro")
    found = run(suite(*cases), tmp_path, rounds=2)
    assert [r.status for r in found] == ["ok", "ok"]
    for result in found:
        metric = result.metrics["latency_ms"]
        assert len(metric.rounds) == len(result.details["rounds"]) == 2
        assert sum(metric.rounds) == len(metric.samples)
        assert {"params", "memory_resident_mib"} <= set(result.metrics)
    begun = (tmp_path / "isolated" / "rounds.jsonl").read_text().splitlines()
    alone = {result.case_id: result.details["time_breakdown"] for result in ledger.read(tmp_path / "isolated")}
    for result in found:
        spent = result.details["time_breakdown"]
        assert _adds_up(spent)
        assert all(spent[name] > alone[result.case_id][name] for name in ("wall", "start", "warm_up", "measured"))
    order = [(json.loads(line)["round"], json.loads(line)["case_id"]) for line in begun]
    ids = [result.case_id for result in found]
    assert order == [(number, case_id) for number in (1, 2) for case_id in ids]


@pytest.mark.slow  # cases in processes of their own
@pytest.mark.exhaustive
def test_a_resident_process_that_dies_costs_its_row_only(data, tmp_path, monkeypatch):
    """The second round's process is killed; its case says so and shows no half-measured times, the other goes on."""
    timed = dataclasses.replace(FAST, data=data, metrics=("parameters", "latency"))
    cases = timed, dataclasses.replace(timed, model="video_swin/micro")
    real = interleave._Worker.measure

    def measure(self, number, best_calibration):
        if number == 2 and self.case.model == "tsm/micro":
            self.child.process.kill()
        return real(self, number, best_calibration)

    monkeypatch.setattr(interleave._Worker, "measure", measure)
    killed, whole = run(suite(*cases), tmp_path, rounds=2)
    assert killed.status == "oom"
    assert "latency_ms" not in killed.metrics
    assert killed.metrics["params"].value > 0
    assert whole.status == "ok"
    assert len(whole.metrics["latency_ms"].rounds) == 2
