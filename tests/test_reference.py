"""`make gpu` without a GPU: which parts, under which limits, what is done once only, and what is said where none is."""

from __future__ import annotations

import fnmatch
import importlib.util
import itertools
import json
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest

GPU = Path(__file__).parent / "gpu"


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"gpu_{name}", GPU / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


reference, films, nvdec_cache = script("reference"), script("films"), script("nvdec_cache")


def part(name: str, code: str, limit: float = 60.0):
    return reference.Part(name=name, command=(sys.executable, "-c", code), limit=limit)


def forever() -> float:
    return time.monotonic() + 1e6


def test_the_short_run_takes_its_parts_from_the_whole_one(tmp_path: Path) -> None:
    every = reference.parts(tmp_path, "cuda")
    assert len({p.name for p in every}) == len(every)
    short = reference.chosen(every, True, ())
    assert [p.name for p in short] == list(reference.SHORT)
    assert short[0].limit == reference.SHORT["doctor"]
    names = {p.name for p in reference.chosen(every, False, ())}
    assert {"quick", "learn", "latency", "throughput", "modes", "published", "overheads", "train"} <= names
    assert {f"{verb}_{film}" for verb in ("bench", "certify") for film in films.FILMS} <= names
    assert {str(path) for path in GPU.glob("test_*.py")} == {
        word for p in every if p.name.startswith("tests_") for word in p.command if "test_" in word
    }
    with pytest.raises(SystemExit, match="no part bensh"):
        reference.chosen(every, False, ["bensh"])


def test_every_suite_has_something_for_a_dry_run(tmp_path: Path) -> None:
    """Its patterns match a case of each suite that it runs; the short run's do on a GPU, too."""
    from reelbench.harness.suites import load

    for device in ("cpu", "cuda"):
        for command in (p.command for p in reference.parts(tmp_path, device) if p.results):
            models = [case.model for case in load.load(command[command.index("run") + 1]).cases]
            patterns = [word for before, word in itertools.pairwise(command) if before == "--only"]
            assert not patterns or any(fnmatch.filter(models, pattern) for pattern in patterns), command


def test_the_reproduction_for_dali_is_run_as_the_page_shows_it() -> None:
    code = compile(nvdec_cache.reproduction(), "nvdec_cache.py", "exec")
    assert {"film", "decoder", "milliseconds"} <= set(code.co_names)


def test_what_is_done_is_not_done_again_and_what_failed_is(tmp_path: Path) -> None:
    counter = tmp_path / "count"
    count = f"open({str(counter)!r}, 'a').write('x')"
    todo = [part("good", f"{count}; print('fine')"), part("bad", f"{count}; raise SystemExit(3)")]
    said: list[str] = []
    for _ in range(2):
        found = reference.run(todo, tmp_path, forever(), said.append)
        assert [row["state"] for row in found] == ["done", "failed"]
    assert counter.read_text() == "xxx"
    assert any(line.endswith("fine") for line in said)
    assert any("done before" in line for line in said)
    later = reference.run([part("later", "pass")], tmp_path, forever(), said.append)
    reference.collect([*todo, part("later", "pass")], later, tmp_path, tmp_path)
    lines = [line.split(" | ")[:2] for line in (tmp_path / "README.md").read_text().splitlines()[4:7]]
    assert lines == [["| good", "done"], ["| bad", "failed"], ["| later", "done"]]
    assert (tmp_path / "logs" / "good.txt").read_text() == "fine\n"


def test_a_part_that_hangs_costs_its_own_time_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is ended with the processes that it has started; where no time is left, the others are skipped."""
    child = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(600)'])"
    monkeypatch.setattr(reference, "LEAST", 0.5)
    todo = [part("hangs", child, 2.0), part("after", "print('ran')")]
    found = reference.run(todo, tmp_path, forever(), lambda _: None)
    assert [row["state"] for row in found] == ["cut short", "done"]
    assert found[0]["seconds"] < 60
    late = reference.run([part("late", "print('ran')")], tmp_path, time.monotonic() + 0.1, lambda _: None)
    assert late[0]["state"] == "skipped"
    assert not (tmp_path / "parts" / "late.json").exists()


def test_the_seconds_given_are_all_that_it_takes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["--device", "cpu", "--only", "doctor", "--only", "films", "--seconds", "0.1", "--work", str(tmp_path)]
    assert reference.main(line) == 1
    assert capsys.readouterr().out.count("skipped: no time is left") == 2
    assert "| films | skipped | 0.0 |" in (tmp_path / "dry-run" / "README.md").read_text()


def test_without_a_gpu_every_part_is_named_as_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(reference, "gpu", lambda: None)
    monkeypatch.delenv("REELBENCH_REQUIRE_GPU", raising=False)
    assert reference.main(["--work", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(reference.chosen(reference.parts(tmp_path, "cuda"), False, ()))
    assert all(line.endswith("skipped: no GPU") for line in lines)
    monkeypatch.setenv("REELBENCH_REQUIRE_GPU", "1")
    assert reference.main(["--short", "--work", str(tmp_path)]) == 1


def test_the_log_of_a_training_becomes_a_line(tmp_path: Path) -> None:
    rows = [{"wait": 0.001 if step >= 10 else 5.0, "compute": 0.099} for step in range(50)]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert "50 steps" in reference.training(tmp_path)[0]
    assert "waits 1.0 ms for its videos (1.0 %)" in reference.training(tmp_path)[0]
    assert reference.training(tmp_path / "none") == []


@pytest.mark.slow  # a suite in processes of its own
def test_a_dry_run_on_the_cpu_writes_what_a_gpu_would(tmp_path: Path) -> None:
    """One real part, and the films of a small size."""
    reference.main(["--device", "cpu", "--only", "doctor", "--work", str(tmp_path)])
    out = tmp_path / "dry-run"
    assert "| doctor | " in (out / "README.md").read_text()
    assert "torch" in (out / "logs" / "doctor.txt").read_text()
    assert json.loads((out / "parts" / "doctor.json").read_text())["state"] in ("done", "failed")
    from reelbench.pipelines.index import Index

    index = Index.load(films.make(tmp_path / "films", "h264_160x144", frames=4))
    assert (len(index), index[0].frames, index[0].width) == (films.ROWS, 4, 160)
