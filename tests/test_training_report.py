"""`reelbench report` on training runs: their curves, whatever state their files are in."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
from pathlib import Path

from reelbench.reports import _training
from reelbench.tests.examples import GOLDEN


def run(folder: Path, steps: int, *, loss: float = 2.0) -> Path:
    folder.mkdir(parents=True)
    rows = [
        {"step": k, "epoch": k / 10, "lr": 0.1 / (k + 1), "loss": loss / (k + 1), "wait": 0.1, "compute": 0.3,
         "clips_s": 20.0 + k, "memory_mib": 1.0}
        for k in range(steps)
    ]  # fmt: skip
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    validation = [{"step": k, "top1": 10.0 + k} for k in range(10, steps + 1, 10)]
    (folder / "validation.jsonl").write_text("".join(json.dumps(row) + "\n" for row in validation))
    (folder / "job.json").write_text(json.dumps({"model": "tsm/micro"}))
    return folder


def test_curves_of_several_runs_are_in_the_page_and_its_picture(reelbench, tmp_path):
    a, b = run(tmp_path / "a", 200), run(tmp_path / "b", 15, loss=3.0)
    page = tmp_path / "curves.html"
    code, out, err = reelbench("report", a, b, "--format", "html", "--to", page)
    assert code == 0, err
    assert out.split() == ["curves:", str(page), "curves:", str(tmp_path / "curves.png")]
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    found = json.loads(re.findall(r'<script type="application/json" id="data">(.*?)</script>', page.read_text())[0])
    assert [curve["name"] for curve in found["curves"]] == ["loss", "lr", "validation", "clips_s", "wait"]
    first, second = found["cases"]
    assert (first["model"], second["model"]) == ("a", "b")
    assert found["colors"]["a"] != found["colors"]["b"]
    assert len(first["loss"]) == _training.MARKS
    assert [mark["y"] for mark in second["validation"]] == [20.0]
    assert second["wait"][0]["y"] == 25.0
    assert [mark["x"] for mark in second["loss"]] == list(range(15))


def test_a_run_that_goes_on_and_damaged_lines_are_shown_with_a_note(reelbench, tmp_path):
    folder = run(tmp_path / "run", 12)
    log = folder / "train.jsonl"
    lines = log.read_text().splitlines()
    lines[3] = lines[3][:20]
    lines[5] = "\x00\x00"
    lines[7] = '{"step": 7, "loss": NaN, "lr": 0.1, "wait": 0.1, "compute": 0.3}'
    log.write_bytes("\n".join([*lines, '{"step": 12, "lo']).encode() + b"\xff")
    (folder / "job.json").write_text("{")
    code, out, err = reelbench("report", folder)
    assert code == 0, err
    assert "2 lines of train.jsonl cannot be read" in out
    assert "1 steps with a loss that is not finite are left out" in out
    assert "no job.json that can be read" in out
    (shown,) = _training.read([folder])
    assert [step for step, _ in shown.curve(_training.CURVES[0])] == [0, 1, 2, 4, 6, 8, 9, 10, 11]


def test_a_run_without_a_step_is_told(reelbench, tmp_path):
    folder = run(tmp_path / "run", 0)
    code, _, err = reelbench("report", folder)
    assert code == 2
    assert "nothing to report: run took no step yet" in err
    code, out, _ = reelbench("report", folder, run(tmp_path / "more", 3))
    assert code == 0
    assert "run: no step yet" in out


def test_results_and_runs_are_reported_together(reelbench, tmp_path):
    suite = tmp_path / "suite"
    shutil.copytree(GOLDEN, suite)
    one, two = run(suite / "train" / "one", 3), run(suite / "train" / "two", 4)
    code, out, _ = reelbench("report", suite, suite / "train")
    assert code == 0
    assert "Training runs" in out
    assert "Measured" in out
    code, alone, _ = reelbench("report", suite)
    assert "Training runs" not in alone
    target = tmp_path / "report.md"
    assert reelbench("report", suite, one, two, "--format", "markdown", "--to", target)[0] == 0
    assert "| two" in (tmp_path / "report-training.md").read_text()
    assert "## Measured" in target.read_text()


def test_every_step_is_in_the_csv_and_other_formats_are_refused(reelbench, tmp_path):
    folder = run(tmp_path / "run", 10)
    rows = list(csv.DictReader(io.StringIO(reelbench("report", folder, "--format", "csv")[1])))
    assert [row["step"] for row in rows] == [*map(str, range(10)), "10"]
    assert rows[-1]["top1"] == "20.0"
    code, _, err = reelbench("report", folder, "--format", "latex")
    assert code == 2
    assert "unknown format of training runs 'latex'" in err
    for name, said in (("x.gif", "ends in .png"), ("x.svg", "")):
        code, _, err = reelbench("report", folder, "--format", "figure", "--to", tmp_path / name)
        assert said in err
        assert code == (2 if said else 0)
