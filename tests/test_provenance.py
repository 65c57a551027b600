"""Rows know their code: what changed since measures a finished case again, or is kept and marked."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from reelbench import reports
from reelbench.errors import UserError
from reelbench.harness.suites import case as cases
from reelbench.harness.suites import dry_run, interleave, ledger, load, provenance, sources, sweep
from reelbench.reports import _measured
from reelbench.result import Metric, Result, changes, newest
from reelbench.spec import Case, Recipe, Suite
from reelbench.tests.examples import measured
from reelbench.tests.test_imports import VOCABULARY

MODEL = """
from torch import nn

import layers

def net(num_classes=2):
    return layers.Net({width}, num_classes)
"""
LAYERS = """
from torch import nn

class Net(nn.Module):
    def __init__(self, width, classes):
        super().__init__()
        self.layer, self.head = nn.Linear(3, width), nn.Linear(width, classes)

    def forward(self, clip):
        return self.head(self.layer(clip.mean(dim=(2, 3, 4))))
"""
CLIP = "from reelbench.spec import Clip\nCLIP = Clip(frames=2, size=8, short_side=8)\n"
HERE = {"cpu": "Example CPU", "cores": 2, "gpus": []}


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's model in two files."""
    path = tmp_path / "nets" / "mine.py"
    path.parent.mkdir()
    path.write_text(CLIP + MODEL.format(width=4))
    (path.parent / "layers.py").write_text(LAYERS)
    return path


@pytest.fixture
def run(mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Result]]:
    """Run a suite of two cases of which each process is replaced by a row; return the rows measured in that call."""

    def instead(case: Case, run: Any, *_: object) -> tuple[float, Result]:
        found = Metric(value=1.0, unit="")
        return 0.0, Result(
            case=case, status="ok", started="2026-01-01", seconds=2.0, metrics={"params": found},
            environment=dict(HERE), provenance=provenance.collect(case),
        )  # fmt: skip

    monkeypatch.setattr(sweep, "_ended", instead)
    monkeypatch.setattr(sweep.phases, "finalize", lambda *_, **__: {"wall": 2.0})
    monkeypatch.setattr(sweep.environment, "collect", lambda: HERE)
    monkeypatch.setattr(sweep.splits, "resolve", lambda name, device: name)
    monkeypatch.setattr(sweep.splits, "fingerprint", lambda data: "")
    names = (f"{mine}:net", "tsm/micro")
    suite = Suite(
        name="s", description="", cases=tuple(Case(model=m, metrics=("parameters",)) for m in names), version=3
    )

    def call(**options: Any) -> list[Result]:
        return sweep.sweep(suite, tmp_path / "out", device="cpu", **options)[1]

    call.suite = suite  # type: ignore[attr-defined]
    return call


def test_a_finished_case_is_measured_again_when_its_model_has_changed(run, mine, capsys):
    assert [r.case.label for r in run()] == ["nets/mine.py:net", "tsm/micro"]
    assert run() == []
    mine.write_text("# a comment\n" + mine.read_text())
    assert run() == []
    (mine.parent / "layers.py").write_text(LAYERS.replace("Linear(3, width)", "Linear(3, 1 * width)"))
    capsys.readouterr()
    assert [r.case.label for r in run()] == ["nets/mine.py:net"]
    assert "nets/mine.py:net: measured again, since these changed: nets/layers.py" in capsys.readouterr().err
    assert run() == []


def test_a_changed_version_measures_every_case_again_in_one_line(run, monkeypatch, capsys):
    run()
    version = provenance._version
    monkeypatch.setattr(provenance, "_version", lambda name: "9.9" if name == "torch" else version(name))
    assert len(run()) == 2
    line = next(line for line in capsys.readouterr().err.splitlines() if "measured again" in line)
    assert line.startswith("2 finished cases: measured again, since these changed: torch ")
    assert line.endswith(" -> 9.9")


def test_stale_rows_are_kept_on_request_and_marked(run, mine, tmp_path, capsys):
    run()
    mine.write_text(mine.read_text().replace("4", "8"))
    assert run(keep_stale=True) == []
    assert "kept as measured before, since these changed: nets/mine.py" in capsys.readouterr().err
    suite = Suite(name="s", description="", cases=(Case(model=f"{mine}:net", metrics=("parameters",)),))
    [kept], _ = sweep.sweep(suite, tmp_path / "out", device="cpu", keep_stale=True)
    assert kept.details["stale"] == ["nets/mine.py"]
    for kind in ("terminal", "markdown", "latex", "csv", "html", "paper"):
        assert "measured by other code or versions than the newest rows: nets/mine.py;" in str(
            reports.render([kept], kind)
        ).replace("{", "").replace("}", ""), kind


def test_the_page_of_a_run_marks_what_is_kept_as_stale(run, mine):
    run(only=["*mine.py:net"])
    mine.write_text(mine.read_text().replace("4", "8"))
    shown = []
    run(keep_stale=True, live=lambda results, _: shown.append({r.case.label: r.details.get("stale") for r in results}))
    assert shown == [{"nets/mine.py:net": ["nets/mine.py"], "tsm/micro": None}]


def test_rows_of_an_earlier_version_are_of_unknown_code(run, tmp_path, capsys):
    run()
    path = tmp_path / "out" / ledger.FILE
    rows = [{**json.loads(line), "schema": 2} for line in path.read_text().splitlines()]
    for row in rows:
        del row["provenance"]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert run(keep_stale=True) == []
    assert len(run()) == 2
    assert "2 finished cases: measured again, since these changed: unknown code" in capsys.readouterr().err


def test_the_row_of_another_machine_is_another_row(run, tmp_path, monkeypatch):
    run()
    monkeypatch.setitem(HERE, "cpu", "Another CPU")
    assert len(run()) == 2
    assert [r.machine for r in ledger.read(tmp_path / "out")] == ["Example CPU, 2 cores"] * 2 + [
        "Another CPU, 2 cores"
    ] * 2
    assert run() == []


# ---- a dry run


def test_a_dry_run_says_what_would_be_measured_why_and_how_long_it_took(run, mine, tmp_path, monkeypatch):
    def said(**options: bool) -> list[str]:
        return dry_run.describe(run.suite, out, device="cpu", **options).splitlines()  # type: ignore[attr-defined]

    out = tmp_path / "out"
    assert [line.partition(": ")[2] for line in said()[1:]] == [
        "measure: not measured yet; time unknown", "measure: not measured yet; time unknown", "2 of unknown time",
    ]  # fmt: skip
    assert not out.exists()
    run()
    before = (out / ledger.FILE).read_bytes()
    assert said()[0] == f"suite s v3 in {out}"
    assert [line.partition(": ")[2] for line in said()[1:3]] == ["finished", "finished"]
    assert said()[3] == "0 of 2 cases to measure"
    mine.write_text(mine.read_text().replace("4", "8"))
    assert said()[1].endswith(": measure again, since these changed: nets/mine.py; about 2 s")
    assert said()[-1] == "1 of 2 cases to measure: about 2 s"
    assert said(keep_stale=True)[1].endswith("finished, kept though these changed: nets/mine.py")
    assert said(fresh=True)[-1] == "2 of 2 cases to measure: about 4 s"
    monkeypatch.setitem(HERE, "cores", 4)
    assert said()[-1] == "2 of 2 cases to measure: 2 of unknown time"
    assert (out / ledger.FILE).read_bytes() == before


def test_the_suite_and_its_version_are_in_results_and_reports(run, tmp_path):
    run()
    results = ledger.read(tmp_path / "out")
    assert {(r.details["suite"], r.details["suite_version"]) for r in results} == {("s", 3)}
    for kind in ("terminal", "markdown", "latex", "csv", "html"):
        assert "s v3" in str(reports.render(results, kind)), kind
    with pytest.raises(UserError, match="version=0 must be 1 or more"):
        Suite(name="s", description="", cases=(results[0].case,), version=0)


# ---- what measures a case


def test_what_builds_trains_and_measures_is_known_and_nothing_else():
    plain = provenance.collect(Case(model="tsm/micro", metrics=("latency",)))
    assert {"models/tsm.py", "models/_conv.py", "harness/metrics/latency.py", "harness/measuring/timing.py"} <= {*plain}
    assert {"torch", "python"} <= {*plain}
    assert not [name for name in plain if name.startswith(("reports", "pipelines", "suites", "harness/suites"))]
    case = Case(model="video_swin/micro", metrics=("accuracy", "latency"), recipe=Recipe())
    trained = provenance.collect(case)
    assert {"harness/training/loop.py", "harness/training/losses.py", "pipelines/dali.py", "deepspeed"} <= {*trained}
    assert {*provenance.of_training(case)} < {*trained}
    assert "harness/measuring/timing.py" not in provenance.of_training(case)  # measured anew, not trained anew
    assert "models/tsm.py" not in trained
    assert sources.DISPLAY not in trained


@pytest.mark.parametrize("suite", load.listing())
def test_what_measures_a_built_in_case_is_the_same_in_every_clone(suite):
    for case in {(c.model, c.metrics, bool(c.recipe)): c for c in load.load(suite).cases}.values():
        found = provenance.collect(case)
        assert not [name for name in found if Path(name).is_absolute()]
        assert {name for name in found if name.endswith(".py") and "/" not in name} <= {"intervals.py"}


def test_no_published_row_names_a_file_by_its_place_on_a_machine():
    files = sorted((sources.ROOT / "reports" / "reference").rglob("results.jsonl"))
    assert files
    for file in files:
        names = {name for line in file.read_text().splitlines() for name in json.loads(line).get("provenance", ())}
        assert not [name for name in names if Path(name).is_absolute()], file


def test_a_file_beside_the_package_is_the_users():
    assert {*sources.MODULES} == {*VOCABULARY, "__init__"}
    for name in sources.MODULES:
        assert (sources.ROOT / f"{name}.py").is_file()
        assert sources.hashes([sources.ROOT / f"{name}.py"]).keys() == {f"{name}.py"}
    assert not sources._is_ours(sources.ROOT / "mine.py")


def test_a_checkpoint_is_known_by_its_content(tmp_path):
    file = tmp_path / "k400.pth"
    file.write_bytes(b"one")
    case = Case(model="tsm/micro", metrics=("accuracy",), checkpoint=str(tmp_path / "*.pth"))
    before = provenance.of_model(case)
    file.write_bytes(b"two")
    [change] = changes(before, provenance.of_model(case))
    assert change.startswith(f"checkpoint {tmp_path.name}/k400.pth")


def test_a_module_of_a_package_is_known_with_its_package(tmp_path, monkeypatch):
    package = tmp_path / "my_nets"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "deep.py").write_text("from . import blocks\nfrom my_nets.heads import Head\nimport os, torch\n")
    (package / "blocks.py").write_text("")
    (package / "heads.py").write_text("from reelbench.models import tsm\n")
    found = {path.name for path in sources.closure(package / "deep.py", ("models/",))}
    assert {"deep.py", "blocks.py", "heads.py", "tsm.py", "_shift.py"} <= found
    assert "os.py" not in found


@pytest.mark.parametrize(("record", "resumes"), [("today", True), ("before", False), ("none", False)])
def test_a_training_by_other_code_is_made_again(tmp_path, monkeypatch, record, resumes):
    case = Case(model="tsm/micro", recipe=Recipe(), metrics=("accuracy",))
    monkeypatch.setattr(cases.checkpoints, "complete", lambda folder: [folder])
    said = []
    if record != "none":
        today = provenance.of_training(case)
        provenance.write(tmp_path, today if record == "today" else {**today, "models/tsm.py": "0"})
    assert cases._resumes(case, tmp_path, said.append, False) is resumes
    assert cases._resumes(case, tmp_path, said.append, True)
    named = {"before": "models/tsm.py", "none": "unknown code"}.get(record)
    assert [event.note for event in said] == (
        [f"tsm/micro: trained again, since these changed: {named}"] if named else []
    )


def test_rounds_of_other_code_do_not_count(tmp_path):
    old, new = (dataclasses.replace(measured(1.0), provenance={"models/tsm.py": value}) for value in "12")
    row = {"case_id": old.case_id, "round": 1, "code": interleave._code(old), "metrics": {}, "machine": {}}
    ledger.append_line(tmp_path / interleave.FOLDER / interleave.FILE, json.dumps(row))
    assert list(interleave._read(tmp_path, {old.case_id: interleave._code(old)})[old.case_id]) == [1]
    assert not interleave._read(tmp_path, {new.case_id: interleave._code(new)})[old.case_id]


# ---- marks


def by(code: str, model: str = "tsm/micro", started: str = "2026-01-01", **versions: str) -> Result:
    files = {f"models/{model.partition('/')[0]}.py": "same", "intervals.py": code, **versions}
    return dataclasses.replace(measured(1.0, model=model), provenance=files, started=started, environment=HERE)


def test_rows_by_other_code_than_the_newest_are_marked_with_one_legend():
    rows = [by("1"), by("2", "tps/micro", "2026-01-02"), by("1", "mvit/micro", torch="2.12"), by("2", torch="2.13")]
    rows[3] = dataclasses.replace(rows[3], started="2026-01-03")
    table = _measured.measured(rows)
    assert [row.cells[1].text for row in table.rows] == ["s", "–", "s", "–"]
    [legend] = [note for note in table.notes if "other code" in note]
    assert "newest rows: intervals.py, torch 2.12 -> 2.13; `reelbench run`" in legend
    unknown = dataclasses.replace(rows[0], provenance={})
    assert [row.cells[1].text for row in _measured.measured([unknown, rows[1]]).rows] == ["s", "–"]
    assert not _measured.measured([unknown, unknown]).notes


def test_a_mean_over_seeds_of_different_code_is_marked():
    one, two = by("1"), by("2")
    seeds = [one, dataclasses.replace(two, case=dataclasses.replace(two.case, seed=1))]
    [merged] = reports._rows(seeds, "markdown")
    assert merged.details["stale"] == ["intervals.py"]


def test_a_row_that_died_without_a_machine_gives_way():
    died = Result(case=Case(model="tsm/micro"), status="oom", started="", seconds=1.0)
    done = dataclasses.replace(died, status="ok", environment=HERE)
    other = dataclasses.replace(done, environment={**HERE, "cores": 4})
    assert newest([died, done, other]) == [done, other]
    assert newest([done, died]) == [died]
