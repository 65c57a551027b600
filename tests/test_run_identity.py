"""A run's folder: who may start in it, what a checkpoint there is worth, and what it is resumed with."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from collections import namedtuple
from pathlib import Path

import pytest
import torch
from reelbench import models
from reelbench.errors import UserError
from reelbench.harness.training import checkpoints, durable, record, run_folder
from reelbench.harness.training.check import check_job
from reelbench.harness.training.job import Job
from reelbench.harness.training.loop import Position
from reelbench.pipelines.index import Index
from reelbench.spec import Recipe

MODEL = "video_swin/micro"
RECIPE = Recipe(epochs=2, batch=8, lr=1e-3, warmup_epochs=1)


def job(data: dict[str, Path], out: Path, **recipe) -> Job:
    chosen = dataclasses.replace(RECIPE, **recipe)
    return Job(model=MODEL, data=data["train"], recipe=chosen, clip=models.find(MODEL).clip, out=out, workers=1)


def save(folder: Path, step: int, **state: object) -> Path:
    """Write a complete checkpoint of a few bytes."""
    written = checkpoints.part(folder, step)
    checkpoints.begin(written)
    (written / "weights.pt").write_bytes(bytes(100))
    checkpoints.finish(written, {"step": step, "ranks": 1, "zero": 0, **state})
    return folder / f"step_{step}"


def saved_by(made: Job, step: int = 12) -> Path:
    now = record.describe(made, Index.load(made.data))
    return save(made.out / run_folder.CHECKPOINTS, step, **{record.KEY: now})


def test_starting_in_a_folder_that_holds_a_run_is_refused(tiny_synthetic, tmp_path):
    made = job(tiny_synthetic, tmp_path)
    saved_by(made)
    said = r"holds a run at step 12: --resume to go on, --overwrite to start anew"
    with pytest.raises(UserError, match=said), run_folder.claim(made):
        pass
    for asked in ("resume", "overwrite"):
        with run_folder.claim(dataclasses.replace(made, **{asked: True})):
            pass
    with pytest.raises(UserError, match="--overwrite deletes it: give one of them"):
        dataclasses.replace(made, resume=True, overwrite=True)


def test_the_weights_of_a_run_are_as_good_as_its_checkpoints(tiny_synthetic, tmp_path):
    made = job(tiny_synthetic, tmp_path)
    (tmp_path / "best.safetensors").touch()
    with pytest.raises(UserError, match="holds the weights of a run: --overwrite"), run_folder.claim(made):
        pass


def test_who_is_at_work_in_a_folder_is_said_first(tiny_synthetic, tmp_path):
    made = job(tiny_synthetic, tmp_path)
    saved_by(made)
    with run_folder.claim(dataclasses.replace(made, resume=True)):
        said = rf"in use by another run \(process {os.getpid()} on "
        with pytest.raises(UserError, match=said), run_folder.claim(made):
            pass


def test_overwriting_deletes_the_run_and_nothing_else(tiny_synthetic, tmp_path):
    made = job(tiny_synthetic, tmp_path)
    saved_by(made)
    for name in ("best.safetensors", "train.jsonl", "notes.txt", "checkpoints/step_mine"):
        (tmp_path / name).write_text("")
    run_folder.clear(tmp_path)
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["checkpoints", "notes.txt", "step_mine"]


def test_a_job_that_overwrote_is_not_repeated_as_one(tiny_synthetic, tmp_path):
    made = dataclasses.replace(job(tiny_synthetic, tmp_path), overwrite=True)
    assert not Job.read(made.write()).overwrite


@pytest.mark.parametrize("name", ["file", "file/below"])
def test_an_out_that_cannot_be_a_folder_is_told(tiny_synthetic, tmp_path, name):
    (tmp_path / "file").touch()
    said = "is a file: name a folder for the run|cannot be written to: Not a directory: choose another folder"
    with pytest.raises(UserError, match=rf"--out .*{name}: ({said})"):
        check_job(job(tiny_synthetic, tmp_path / name), 1)


def test_a_disk_too_small_for_the_checkpoints_to_come_is_told(tiny_synthetic, tmp_path, monkeypatch):
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(6 << 20))
    small, large = job(tiny_synthetic, tmp_path, epochs=1), job(tiny_synthetic, tmp_path)
    large = dataclasses.replace(large, save_steps=1, keep=9)
    check_job(small, 1)
    with pytest.raises(UserError, match=r"6 MiB free, but 8 checkpoints of 4 MiB .* lower --keep"):
        check_job(large, 1)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"optimizer": "sgd"}, "optimizer was adamw and is now sgd"),
        ({"objective": "multilabel"}, "one label each"),
        ({"linear_probe": True}, "linear_probe was False and is now True"),
        ({"lr_rules": (("head", 10.0),)}, "lr_rules was .* and is now"),
    ],
)
def test_a_resumed_run_keeps_what_it_learns(tiny_synthetic, tmp_path, changed, said):
    saved_by(job(tiny_synthetic, tmp_path))
    again = dataclasses.replace(job(tiny_synthetic, tmp_path, **changed), resume=True)
    with pytest.raises(UserError, match=said):
        check_job(again, 1)


def test_a_resumed_run_keeps_its_model_data_and_clip(tiny_synthetic, tmp_path):
    made = job(tiny_synthetic, tmp_path)
    saved_by(made)
    again = dataclasses.replace(made, resume=True)
    with pytest.raises(UserError, match="model was video_swin/micro and is now tps/micro"):
        check_job(dataclasses.replace(again, model="tps/micro", clip=models.find("tps/micro").clip), 1)
    with pytest.raises(UserError, match=r"data was 24 videos of 8 classes .* is now 8 videos of 8 classes"):
        check_job(dataclasses.replace(again, data=tiny_synthetic["val"]), 1)
    with pytest.raises(UserError, match=r"clip was \{'stride': \d+\} and is now \{'stride': 9\}"):
        check_job(dataclasses.replace(again, clip=dataclasses.replace(made.clip, stride=9)), 1)


def test_what_else_differs_is_listed(tiny_synthetic, tmp_path):
    tag = saved_by(job(tiny_synthetic, tmp_path))
    again = dataclasses.replace(job(tiny_synthetic, tmp_path, lr=0.5, zero=2, batch=4, ema=0.9), seed=3)
    found = record.compare(tag, record.describe(again, Index.load(again.data)))
    assert found == ["batch 8 -> 4", "lr 0.001 -> 0.5", "ema 0.0 -> 0.9", "zero 0 -> 2", "seed 0 -> 3"]


def test_a_checkpoint_from_before_the_record_is_resumed(tiny_synthetic, tmp_path):
    old = tmp_path / run_folder.CHECKPOINTS / "step_6"
    old.mkdir(parents=True)
    (old / checkpoints.STATE).write_text('{"step": 6, "ranks": 1, "zero": 0}')
    made = dataclasses.replace(job(tiny_synthetic, tmp_path), resume=True)
    check_job(made, 1)
    assert record.compare(old, record.describe(made, Index.load(made.data))) == []


@pytest.mark.parametrize(
    ("step", "before", "now", "place"),
    [(6, 8, 16, 3), (6, 8, 4, 12), (7, 8, 16, 3), (8, 8, 16, 4), (3, 16, 8, 6), (5, 8, 20, 2)],
)
def test_another_batch_goes_on_at_the_same_video(step, before, now, place):
    """48 videos an epoch: where whole batches were seen, none is skipped or seen twice."""
    moved = Position(step=step).with_batch(before, now, 48)
    assert (moved.step, moved.place) == (step, place)
    assert Position.from_state({**dataclasses.asdict(moved)}) == moved


def test_a_damaged_checkpoint_is_passed_over(tmp_path):
    for step in (6, 12):
        save(tmp_path, step)
    assert checkpoints.newest(tmp_path).name == "step_12"
    with (tmp_path / "step_12" / "weights.pt").open("r+b") as file:
        file.truncate(40)
    assert checkpoints.newest(tmp_path).name == "step_6"
    assert checkpoints.newer_damaged(tmp_path) == ["step_12: weights.pt has 40 of 100 bytes"]
    (tmp_path / "step_12" / "weights.pt").unlink()
    assert checkpoints.newer_damaged(tmp_path) == ["step_12: weights.pt is missing"]
    (tmp_path / "step_12" / checkpoints.STATE).write_text('{"step": 1')
    assert checkpoints.newer_damaged(tmp_path)[0].startswith("step_12: no readable run.json")
    (tmp_path / "step_6" / "weights.pt").unlink()
    with pytest.raises(UserError, match=r"nothing to resume in .*step_6: weights.pt is missing; step_12: no readable"):
        checkpoints.newest(tmp_path)


def test_foreign_names_are_neither_resumed_nor_deleted(tmp_path):
    foreign = ["step_old", "step_12_backup", "step_3.bak", "stepping", "best"]
    for name in foreign:
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / checkpoints.STATE).write_text("{}")
    for step in (1, 2, 3):
        save(tmp_path, step)
    checkpoints.prune(tmp_path, 3, keep=1)
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_dir()) == sorted([*foreign, "step_3"])
    assert checkpoints.newest(tmp_path).name == "step_3"


def test_killed_between_the_last_byte_and_the_name_a_checkpoint_counts(tmp_path):
    save(tmp_path, 6).rename(tmp_path / "step_6.part")
    assert checkpoints.newest(tmp_path).name == "step_6.part"
    save(tmp_path, 6)
    assert checkpoints.newest(tmp_path).name == "step_6"


def test_a_file_is_there_whole_or_as_it_was(tmp_path):
    path = tmp_path / "best.safetensors"
    durable.write(path, lambda part: part.write_text("first"))

    def full(part: Path) -> None:
        part.write_text("sec")
        raise OSError(28, durable.NO_SPACE)

    with pytest.raises(UserError, match=r"No space left on device: .* go on with --resume"), durable.one_line(tmp_path):
        durable.write(path, full)
    assert path.read_text() == "first"
    assert [p.name for p in tmp_path.iterdir()] == ["best.safetensors"]


def test_a_writer_keeps_its_first_error_and_gives_the_space_back(tmp_path, monkeypatch):
    real = torch.save

    def full(value: object, file) -> None:
        real(value, file)
        raise RuntimeError("unexpected pos 128 vs 64")  # what torch makes of it

    monkeypatch.setattr(torch, "save", full)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: namedtuple("usage", "free")(0))
    writer = durable.Writer()
    writer.save({"a": torch.zeros(9)}, str(tmp_path / "a.pt"))
    assert (tmp_path / "a.pt").stat().st_size == 0
    assert writer.take_error() == durable.NO_SPACE
    assert writer.take_error() == ""


def test_the_state_lists_every_file(tmp_path):
    state = json.loads((save(tmp_path, 6) / checkpoints.STATE).read_text())
    assert state[checkpoints.FILES] == {"weights.pt": 100}
