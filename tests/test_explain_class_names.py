"""The names of classes in an explanation: of an index, of a training folder, or none; by name or number."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from reelbench import models
from reelbench.errors import UserError
from reelbench.harness.explain import class_names
from reelbench.harness.training.job import Job
from reelbench.pipelines.index import Index
from reelbench.spec import Recipe
from safetensors.torch import save_file

MODEL = "tsm/micro"


@pytest.fixture
def given(tiny_synthetic: dict[str, Path], tmp_path: Path) -> list[object]:
    """A video and a checkpoint with a head for the synthetic set's classes."""
    index = Index.load(tiny_synthetic["test"])
    save_file(models.build(MODEL, num_classes=len(index.classes)).state_dict(), str(tmp_path / "best.safetensors"))
    video = index[0].path
    return [MODEL, video, "--checkpoint", tmp_path / "best.safetensors", "--to", tmp_path / "x.png"]


def test_an_index_names_the_classes_and_takes_a_name(given, tiny_synthetic, reelbench):
    classes = Index.load(tiny_synthetic["test"]).classes
    code, out, err = reelbench("explain", *given, "--data", tiny_synthetic["test"], "--label", classes[2])
    assert code == 0, err
    answer, titles = out.splitlines()[-2:]
    assert {part.rsplit(" ", 2)[0] for part in answer.split(", ")} <= set(classes)
    assert titles.startswith(f"frame | Grad-CAM: {classes[2]} -> ")


def test_a_training_folder_names_them_by_itself(given, tmp_path: Path, reelbench):
    (tmp_path / "classes.json").write_text(json.dumps([f"gesture {n}" for n in "abcdefgh"]))
    code, out, err = reelbench("explain", *given, "--label", "1")
    assert code == 0, err
    assert "frame | Grad-CAM: gesture b -> " in out


def test_several_labels_have_a_probability_each(given, tmp_path: Path, reelbench):
    def shares() -> list[float]:
        code, out, _ = reelbench("explain", *given)
        assert code == 0
        return [float(part.split()[-2]) for part in out.splitlines()[-2].split(", ")]

    assert sum(shares()) < 100
    recipe, clip = Recipe(objective="multilabel"), models.find(MODEL).clip
    Job(model=MODEL, data=tmp_path, recipe=recipe, clip=clip, out=tmp_path).write()
    assert sum(shares()) > 200  # five of eight classes, each near a half


def test_without_names_there_are_numbers(given, reelbench):
    code, out, _ = reelbench("explain", *given, "--label", "3")
    assert code == 0
    assert "frame | Grad-CAM: class 3 -> " in out


@pytest.mark.slow  # loads and explains several times
def test_mistakes_are_told_in_one_line(given, tiny_synthetic, tmp_path: Path, reelbench):
    (tmp_path / "other").mkdir()
    index = Index.load(tiny_synthetic["test"])
    Index(table=index.table, classes=(*index.classes, "ninth"), root=index.root).save(
        tmp_path / "other" / "test.parquet"
    )
    for wrong, text in (
        (["--data", tmp_path / "other"], "has 9 classes, the head of"),
        (["--data", tmp_path / "none.parquet"], "no data"),
        (["--label", "8"], "--label 8: the classes are 0 to 7"),
        (["--data", tiny_synthetic["test"], "--label", index.classes[0][:-1]], f"did you mean '{index.classes[0]}'"),
    ):
        code, _, err = reelbench("explain", *given, *wrong)
        told = [line for line in err.splitlines() if line.startswith("reelbench:")]
        assert (code, len(told)) == (2, 1), err
        assert text in err


def test_a_name_that_looks_like_a_number_is_a_name():
    assert class_names.find("1", ("3", "1", "2")) == 1
    assert class_names.find("0", ("3", "1", "2")) == 0
    with pytest.raises(UserError, match="unknown class"):
        class_names.find("-1", ("3", "1", "2"))
