"""Predictions of several models on the same videos: paired tests by hand, classes, confusions, mistakes in one line."""

from __future__ import annotations

import csv
import dataclasses
import io
import math
import random
from pathlib import Path

import pandas as pd
import pytest
import torch
from reelbench.errors import UserError
from reelbench.harness.cli.report import predictions as verb
from reelbench.harness.measuring.accuracy import Predictions as Dump
from reelbench.reports import _predictions
from reelbench.reports._predictions import Predictions, disagreement, tables
from reelbench.reports._stats import sign_flip

VIDEOS = [f"{i}.mp4" for i in range(40)]
LABELS = {video: i % 4 for i, video in enumerate(VIDEOS)}


def model(name: str, wrong: set[int], labels: dict[str, int] = LABELS) -> Predictions:
    predicted = {v: (label + 1) % 4 if i in wrong else label for i, (v, label) in enumerate(labels.items())}
    return Predictions(name, labels, predicted)


def cells(table, row: int) -> list[str]:
    return [cell.full for cell in table.rows[row].cells]


@pytest.mark.parametrize(("b", "c"), [(0, 0), (1, 0), (2, 8), (10, 10), (0, 6), (30, 12)])
def test_mcnemar_is_the_binomial_test_of_a_fair_coin(b: int, c: int):
    n = b + c
    as_rare = [math.comb(n, k) for k in range(n + 1) if abs(k - n / 2) >= abs(b - n / 2)]
    differences = [1] * b + [-1] * c + [0] * 5
    assert sign_flip(differences) == pytest.approx(sum(as_rare) / 2**n)
    assert sign_flip([-d for d in differences]) == sign_flip(differences)


def test_pairs_count_the_videos_that_one_alone_got_right():
    a, b = model("a", set(range(20))), model("b", {0, 1, 39})
    paired = tables([a, b])[1]
    assert cells(paired, 0) == ["a", "b", "1", "18", "+42.5", "< 0.001", "b is better"]


def test_clips_of_one_video_count_once():
    """Ten clips of one recording that b alone gets right are one success, not ten; the files say what is alike."""
    alike = {video: "one" if i < 10 else str(i) for i, video in enumerate(VIDEOS)}
    a, b = model("a", set(range(10))), model("b", set())
    assert tables([a, b])[1].rows[0].cells[-1].text == "b is better"
    grouped = dataclasses.replace(a, group=alike)
    accuracy, paired, *_ = tables([grouped, b])
    assert cells(paired, 0)[2:] == ["0", "10", "+25.0", "1.000", "no difference"]
    assert "in 31 groups" in accuracy.caption
    assert disagreement(a, b) == [0, 10, 40, 1.0]
    assert disagreement(grouped, b) == [0, 10, 40, 10.0]
    independent, clustered = (tables([m, b])[0].rows[0].cells[1].interval for m in (a, grouped))
    width = [float(high) - float(low) for low, high in (i[1:-1].split(", ") for i in (independent, clustered))]
    assert width[1] > 1.5 * width[0]


def test_alike_models_do_not_differ_however_many_pairs():
    """Two hundred sets of four equally good models: at most one in twenty names a better one."""
    draw = random.Random(0)
    alarms = 0
    for _ in range(200):
        made = [model(str(i), {v for v in range(40) if draw.random() < 0.4}) for i in range(4)]
        alarms += any(row.cells[-1].text != "no difference" for row in tables(made)[1].rows)
    assert alarms <= 17


def test_classes_and_confusions_are_named():
    _, classes, confusions = tables([model("a", {0, 4, 1})], ("up", "down", "left", "right"))
    assert [row.cells[0].text for row in classes.rows] == ["up", "down", "left", "right"]
    assert cells(classes, 0)[:2] == ["up", "10"]
    assert classes.rows[0].cells[2].value == 80
    assert cells(confusions, 0) == ["a", "up", "down", "2"]


def test_only_videos_in_common_count():
    half = {v: LABELS[v] for v in VIDEOS[:20]}
    accuracy = tables([model("a", set()), model("b", set(), half)])[0]
    assert [row.cells[2].value for row in accuracy.rows] == [20, 0]
    assert accuracy.caption.startswith("20 videos")


def test_other_videos_and_other_labels_are_refused():
    with pytest.raises(UserError, match="no video in common"):
        tables([model("a", set()), model("b", set(), {"else.mp4": 0})])
    with pytest.raises(UserError, match="b was tested with other labels than a"):
        tables([model("a", set()), model("b", set(), {**LABELS, "3.mp4": 0})])


def test_the_matrix_is_whole():
    rows = list(csv.reader(io.StringIO(_predictions.matrix(model("a", {0}), ('a "b", c', "d", "e", "f")))))
    assert rows[0] == ["is", 'a "b", c', "d", "e", "f"]
    assert rows[1][1:] == ["9", "1", "0", "0"]
    assert sum(int(n) for row in rows[1:] for n in row[1:]) == 40


def test_the_verb_reads_what_evaluation_dumps(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    dump = Dump(torch.arange(3), torch.tensor([0, 1, 2]), torch.eye(3)[[0, 1, 1]])
    dump.save(tmp_path / "tsm.parquet", ["a.mp4", "b.mp4", "c.mp4"])
    verb([tmp_path / "tsm.parquet"], None, "markdown")
    assert "66.7" in capsys.readouterr().out
    verb([tmp_path / "tsm.parquet"], None, "csv")
    assert capsys.readouterr().out.splitlines()[0] == 'is,"0","1","2"'
    pd.DataFrame({"x": [1]}).to_parquet(tmp_path / "other.parquet")
    with pytest.raises(UserError, match="holds no predictions"):
        verb([tmp_path / "other.parquet"], None, "terminal")
    with pytest.raises(UserError, match="holds no predictions: run a suite"):
        verb([tmp_path], None, "terminal")
