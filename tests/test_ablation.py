"""Ablations: steps are cases, misspelled fields are told in one line, and reports compare each step with the base."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pandas as pd
import pytest
from reelbench import reports
from reelbench.ablation import Ablation
from reelbench.errors import UserError
from reelbench.harness.results import load_results
from reelbench.harness.suites import ledger, load, sweep
from reelbench.reports import _ablation
from reelbench.result import Metric, Result
from reelbench.spec import Case, Clip, Recipe, Suite, Views

BASE = Case(
    model="tsm/micro", clip=Clip(frames=8, stride=2), recipe=Recipe(), views=Views(), metrics=("accuracy",),
    options={"width": 16},
)  # fmt: skip
EXAMPLE = Path(__file__).parent.parent / "examples" / "ablation.py"


def test_a_step_changes_fields_of_any_part():
    made = Ablation(
        BASE,
        {
            "stride": {"stride": 16},
            "batch": {"recipe.batch": 32, "lr": 0.1},
            "several": {"model": "tps/micro", "clips": 4, "case.batch": 8, "options.width": 32},
        },
    )
    assert list(made) == ["base", "stride", "batch", "several"]
    assert made["base"] == BASE
    assert made["stride"] == dataclasses.replace(BASE, clip=Clip(frames=8, stride=16))
    assert made["batch"].recipe == Recipe(batch=32, lr=0.1)
    assert (made["several"].views, made["several"].batch) == (Views(clips=4), 8)
    assert made["several"].options == {"width": 32}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"a": {"strid": 16}}, "unknown field in ablation step 'a': 'strid': did you mean 'stride'"),
        ({"a": {"batch": 16}}, "batch may be case.batch or recipe.batch: write one of them"),
        ({"a": {"recipe.stride": 16}}, "unknown field in ablation step 'a': 'recipe.stride'"),
        ({"a": {"stride": 0}}, "ablation step 'a': clip: stride=0 must be a positive integer"),
        ({"a": {"stride": 2}}, "step 'a' is the same case as 'base'"),
        ({"a": {"stride": 3}, "b": {"stride": 3}}, "step 'b' is the same case as 'a'"),
        ({"base": {"stride": 3}}, "cannot be called 'base'"),
    ],
)
def test_a_mistake_is_told_in_one_line(changes, said):
    with pytest.raises(UserError, match=said):
        Ablation(BASE, changes)


def test_a_base_without_a_clip_has_none_to_change():
    with pytest.raises(UserError, match=r"the base has no clip to change: give it clip=Clip"):
        Ablation(dataclasses.replace(BASE, clip=None), {"a": {"stride": 3}})


def test_a_suite_runs_the_cases_of_its_ablations_once():
    one, two = Ablation(BASE, {"a": {"stride": 4}}), Ablation(BASE, {"b": {"stride": 8}})
    suite = Suite(name="s", description="", ablations=(one, two))
    assert suite.on("cpu") == (BASE, one["a"], two["b"])
    changed = load.with_changes(suite, data="mine.parquet")
    assert {case.data for case in changed.on("cpu")} == {"mine.parquet"}
    assert list(changed.ablations[0]) == ["base", "a"]


def test_the_example_is_a_suite():
    suite = load.load(str(EXAMPLE))
    assert [case.clip.frames for case in suite.on("cpu") if case.clip] == [8, 16, 8, 8, 8, 8]


# ---- the report


@pytest.fixture
def out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A results folder of a base that is right on 60 of 100 videos and of two steps: one gains 10 and loses 2."""
    made = Ablation(BASE, {"stride 16": {"stride": 16}, "mixup": {"mixup": 0.5}})
    right = {"base": range(60), "stride 16": [*range(2, 60), *range(60, 70)], "mixup": range(60)}
    by_id = {case.case_id: step for step, case in made.items()}

    def instead(case: Case, run: sweep._Run, *_: object) -> tuple[float, Result]:
        chosen = by_id[dataclasses.replace(case, fingerprint="").case_id]
        correct = [video in right[chosen] for video in range(100)]
        table = pd.DataFrame({"path": [f"{v}.mp4" for v in range(100)], "label": 1, "predicted": [*map(int, correct)]})
        (run.out / "predictions").mkdir(exist_ok=True)
        table.to_parquet(run.out / "predictions" / f"{case.case_id}.parquet")
        metrics = {"top1": Metric(value=float(sum(correct)), unit="%", low=50.0, high=70.0)}
        train = {"steps": 1, "seconds": 1800.0, "first_loss": 1.0, "last_loss": 1.0}
        return 0.0, Result(
            case=case, status="ok", started="", seconds=1.0, metrics=metrics, environment=run.here,
            details={"train": train},  # type: ignore[typeddict-item]
        )  # fmt: skip

    monkeypatch.setattr(sweep, "_ended", instead)
    monkeypatch.setattr(sweep.phases, "finalize", lambda *_, **__: {"wall": 2.0})
    monkeypatch.setattr(sweep.splits, "resolve", lambda name, device: name)
    monkeypatch.setattr(sweep, "accuracy_sentences", lambda cases: [])
    monkeypatch.setattr(sweep.splits, "fingerprint", lambda data: "f" * 12)
    monkeypatch.setattr("reelbench.models.check_clip", lambda *_: None)
    suite = Suite(name="s", description="", ablations=(made,))
    sweep.sweep(suite, tmp_path / "out", device="cpu")
    return tmp_path / "out"


def test_each_step_stands_beside_the_base_with_its_paired_difference(out):
    results = load_results(out)
    [table] = _ablation.tables(results)
    assert table.title == "Ablation of tsm/micro"
    assert [c.header for c in table.columns] == ["step", "top-1", "difference", "training", "case"]
    assert [[cell.text for cell in row.cells[:-1]] for row in table.rows] == [
        ["base", "60.0", "–", "0.500"], ["stride 16", "68.0", "+8.0", "0.500"], ["mixup", "60.0", "+0.0", "0.500"],
    ]  # fmt: skip
    assert table.rows[1].cells[2].interval == "[+1.1, +14.6]"  # paired: two Wilson intervals would overlap widely
    assert results[1].details["paired"][results[0].case_id] == [2, 10, 100, 1.0]
    for kind in ("terminal", "markdown", "latex", "html"):
        text = str(reports.render(results, kind))
        assert "Ablation of tsm/micro" in text, kind
        assert "[+1.1, +14.6]" in text, kind


def test_predictions_are_those_of_the_machine_that_tested_last(out):
    """Two machines in one folder: the second has written its predictions over the first's."""
    earlier = ledger.read(out)
    for result in earlier[:2]:
        ledger.append(out, dataclasses.replace(result, started="2027", environment={"cpu": "another", "gpus": []}))
    results = load_results(out)
    found = {(r.case_id, r.machine): r.details.get("paired") for r in results}
    assert len(found) == 5
    base, step = earlier[0].case_id, earlier[1].case_id
    assert found[step, "another"] == {base: [2, 10, 100, 1.0]}
    assert found[step, earlier[1].machine] is None
    assert found[earlier[2].case_id, earlier[2].machine] is None  # its base was tested on the other machine since


def test_without_predictions_a_difference_has_no_interval(out):
    for file in (out / "predictions").iterdir():
        file.unlink()
    [table] = _ablation.tables(load_results(out))
    assert (table.rows[1].cells[2].text, table.rows[1].cells[2].interval, table.caption) == ("+8.0", "", "")


def test_a_step_without_its_base_has_no_table(out):
    assert _ablation.tables(load_results(out)[1:]) == []
    assert [r.details["steps"][0][0] for r in ledger.read(out)] == ["base", "stride 16", "mixup"]


@pytest.mark.parametrize(("counts", "expected"), [((0, 0, 10), 0.0), ((10, 0, 10), -100.0), ((0, 10, 10), 100.0)])
def test_an_interval_stays_within_what_is_possible(counts, expected):
    value, low, high = _ablation.paired_difference(*counts)
    assert value == expected
    assert -100 <= low <= value <= high <= 100
    assert high > low
