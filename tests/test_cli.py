"""Whole commands, as a user types them: every mistake ends in one line that names it, exit code 2, no traceback."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
from reelbench import models
from reelbench.harness.suites import ledger
from reelbench.pipelines.index import Index
from reelbench.result import Result
from reelbench.spec import Case
from reelbench.tests.examples import GOLDEN


def suite_file(folder: Path, body: str) -> Path:
    path = folder / "mine.py"
    path.write_text(f"from reelbench.spec import *\n{body}\n")
    return path


def suite_of(folder: Path, case: str) -> Path:
    return suite_file(folder, f"SUITE = Suite(name='mine', description='', cases=({case},))")


@pytest.mark.parametrize(
    "verb",
    [
        "run",
        "train",
        "eval",
        "report",
        "compare",
        "predictions",
        "explain",
        "convert",
        "models",
        "suites",
        "doctor",
        "time",
        "predict",
        "plan",
    ],
)
def test_every_verb_explains_itself_with_an_example(reelbench, verb):
    code, out, _ = reelbench(verb, "--help")
    assert code == 0
    assert "Example: reelbench" in out


@pytest.mark.parametrize("verb", ["synth", "index", "check"])
def test_every_data_verb_explains_itself_with_an_example(reelbench, verb):
    code, out, _ = reelbench("data", verb, "--help")
    assert code == 0
    assert "Example: reelbench data" in out


def refused(outcome: tuple[int, str, str], *said: str) -> None:
    code, _, err = outcome
    assert code == 2, err
    lines = [line for line in err.splitlines() if line.startswith("reelbench:")]
    assert len(lines) == 1, err
    assert "Traceback" not in err
    for part in said:
        assert part in lines[0]


def test_an_unknown_suite(reelbench):
    refused(reelbench("run", "quik"), "unknown suite 'quik'", "did you mean 'quick'")


def test_a_suite_file_that_is_not_there(reelbench, tmp_path):
    refused(reelbench("run", tmp_path / "none.py"), "no suite file", "none.py")


def test_a_suite_file_that_does_not_import(reelbench, tmp_path):
    refused(reelbench("run", suite_file(tmp_path, "import no_such_thing")), "mine.py does not import", "no_such_thing")


def test_a_suite_file_without_a_suite(reelbench, tmp_path):
    refused(reelbench("run", suite_file(tmp_path, "CASES = ()")), "lacks SUITE")


def test_an_unknown_metric(reelbench, tmp_path):
    suite = suite_of(tmp_path, "Case(model='tsm/micro', metrics=('latncy',))")
    refused(reelbench("run", suite), "unknown metric 'latncy'", "did you mean 'latency'")


def test_an_unknown_model(reelbench, tmp_path):
    outcome = reelbench("run", suite_of(tmp_path, "Case(model='tms/micro')"), "--out", tmp_path / "out")
    refused(outcome, "unknown model 'tms/micro'", "tsm/micro")
    assert not (tmp_path / "out").exists()


def test_a_pattern_that_matches_nothing(reelbench, tmp_path):
    suite = suite_of(tmp_path, "Case(model='tsm/micro')")
    refused(reelbench("run", suite, "--only", "swin*"), "--only 'swin*' matches no case", "tsm/micro")
    refused(reelbench("run", suite, "--only", "a*", "--only", "b*"), "--only 'a*' --only 'b*' matches no case")


def test_an_impossible_clip(reelbench, tmp_path):
    suite = suite_of(tmp_path, "Case(model='tsm/micro', clip=Clip(frames=0))")
    refused(reelbench("run", suite), "frames=0 must be a positive integer")


def test_a_clip_that_the_model_cannot_take(reelbench, tmp_path):
    suite = suite_of(tmp_path, "Case(model='mvit/micro', clip=Clip(frames=8, size=50, short_side=50))")
    refused(reelbench("run", suite), "mvit/micro cannot take 8 frames of 50x50", "its own: 8 of 32x32")


def test_data_that_is_not_there(reelbench, tmp_path):
    suite = suite_of(tmp_path, f"Case(model='tsm/micro', data='{tmp_path}/none.parquet')")
    refused(reelbench("run", suite), "no data", "none.parquet")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_where_there_is_none(reelbench):
    refused(reelbench("run", "quick", "--device", "cuda"), "no CUDA device")


def test_an_unknown_device(reelbench):
    refused(reelbench("run", "quick", "--device", "gpu"), "unknown device 'gpu'")


def test_training_on_an_unknown_recipe(reelbench, tmp_path):
    outcome = reelbench("train", "video_swin/t", "--data", tmp_path / "x.parquet", "--recipe", "kinetics4000")
    refused(outcome, "unknown recipe of video_swin/t 'kinetics4000'", "kinetics400")
    outcome = reelbench("train", "tsm/micro", "--data", tmp_path / "x.parquet", "--recipe", "kinetics400")
    refused(outcome, "tsm/micro has no recipe 'kinetics400', nor any: leave --recipe out")


def test_training_on_videos_that_moved(reelbench, tmp_path, tiny_synthetic):
    moved = tmp_path / "moved.parquet"
    index = Index.load(tiny_synthetic["train"])
    copied = tmp_path / "videos"
    copied.mkdir()
    for video in index.videos():
        (copied / video.path.name).write_bytes(video.path.read_bytes())
    from reelbench.pipelines.index import build

    made = build([(path, 0) for path in sorted(copied.iterdir())], ("only",), copied)
    made.save(moved)
    copied.rename(tmp_path / "elsewhere")
    outcome = reelbench("train", "tsm/micro", "--data", moved, "--batch", 8, "--out", tmp_path / "out")
    refused(outcome, "moved or changed since it was indexed (24 of 24 files)")
    assert not (tmp_path / "out").exists()


def test_a_batch_that_does_not_divide(reelbench, tmp_path, tiny_synthetic):
    outcome = reelbench("train", "tsm/micro", "--data", tiny_synthetic["train"], "--batch", 9, "--gpus", 2)
    refused(outcome, "batch 9 does not divide over 2 ranks", "multiple of 2")


def test_a_checkpoint_of_another_architecture(reelbench, tmp_path, tiny_synthetic):
    torch.save(models.build("tsm/micro", num_classes=8).state_dict(), tmp_path / "tsm.pth")
    outcome = reelbench(
        "eval", "video_swin/micro", "--checkpoint", tmp_path / "tsm.pth", "--data", tiny_synthetic["test"]
    )
    refused(outcome, "does not fit video_swin/micro", "missing", "unexpected")


def test_an_unknown_precision_or_way_of_scoring(reelbench, tmp_path, tiny_synthetic):
    data = ("--data", tiny_synthetic["test"])
    given = (*data, "--checkpoint", tmp_path / "x.pth")
    refused(reelbench("eval", "tsm/micro", *given, "--precision", "fp31"), "unknown precision 'fp31'", "bf16")
    refused(reelbench("eval", "tsm/micro", *given, "--gpus", 2, "--precision", "fp31"), "unknown precision 'fp31'")
    refused(reelbench("eval", "tsm/micro", *given, "--scores", "max"), "unknown --scores 'max'", "softmax")
    refused(reelbench("train", "tsm/micro", *data, "--precision", "fp31"), "unknown --precision 'fp31'")
    refused(reelbench("run", suite_of(tmp_path, "Case(model='tsm/micro', precision='fp31')")), "precision='fp31'")
    (tmp_path / "recipe.json").write_text('{"precision": "fp31"}')
    refused(reelbench("train", "tsm/micro", *data, "--recipe", tmp_path / "recipe.json"), "precision='fp31'")


def test_labels_that_cannot_be_scored(reelbench, tmp_path, tiny_synthetic):
    index = Index.load(tiny_synthetic["test"])
    for name, labels, said in (
        ("one", [9, *range(1, 8)], f"{index[0].path.name}: label 9 is none of the 8 classes"),
        ("some", [-1, *range(1, 8)], f"{index[0].path.name}: label -1 is none of the 8 classes"),
        ("none", [-1] * 8, "no video has a label (a test split?)"),
    ):
        table = index.table.copy()
        table["label"] = pd.Series([[label] for label in labels], dtype=table["label"].dtype)
        dataclasses.replace(index, table=table).save(tmp_path / f"{name}.parquet")
        for more in ((), ("--gpus", 2)):
            command = ("eval", "tsm/micro", "--checkpoint", tmp_path / "x.pth", "--data", tmp_path / f"{name}.parquet")
            refused(reelbench(*command, "--device", "cpu", *more), said)


def test_weights_that_cannot_be_written(reelbench, tmp_path):
    """Told before the checkpoint is read: it is not there."""
    (tmp_path / "file").touch()
    target = tmp_path / "file" / "x.safetensors"
    refused(reelbench("report", GOLDEN, "--to", target.with_suffix(".html"), "--format", "html"), "cannot be written")
    for verb in ("convert", "export"):
        refused(reelbench(verb, tmp_path / "x.pth", target, "--model", "tsm/micro"), "cannot be written")


def test_unwritable_views(reelbench, tmp_path, tiny_synthetic):
    outcome = reelbench(
        "eval", "tsm/micro", "--checkpoint", tmp_path / "x.pth", "--data", tiny_synthetic["test"], "--views", "4by3"
    )
    refused(outcome, "views '4by3'", "4x3")


def test_a_report_of_nothing(reelbench, tmp_path):
    refused(reelbench("report", tmp_path), "holds no results.jsonl")


def test_a_report_of_a_newer_schema(reelbench, tmp_path):
    line = Result(case=Case(model="tsm/micro"), status="ok", started="2026-01-01T00:00:00", seconds=1.0).to_json()
    (tmp_path / ledger.FILE).write_text(json.dumps({**json.loads(line), "schema": 99}) + "\n")
    refused(reelbench("report", tmp_path), "written by a newer ReelBench")


def test_an_unknown_report_format(reelbench, tmp_path):
    ledger.append(tmp_path, Result(case=Case(model="tsm/micro"), status="ok", started="2026-01-01", seconds=1.0))
    refused(reelbench("report", tmp_path, "--format", "htlm"), "unknown report format 'htlm'", "html")


def test_a_picture_needs_a_file(reelbench):
    refused(reelbench("report", GOLDEN, "--format", "figure"), "--format figure is a picture: name a file with --to")


def test_a_checkpoint_is_converted(reelbench, tmp_path):
    original = models.build("tsm/micro", num_classes=5)
    torch.save({"state_dict": original.state_dict()}, tmp_path / "in.pth")
    command = ("convert", tmp_path / "in.pth", tmp_path / "out.safetensors", "--model", "tsm/micro")
    refused(reelbench(*command, "--num-classes", 6), "does not fit tsm/micro")
    assert not (tmp_path / "out.safetensors").exists()
    code, out, _ = reelbench(*command)
    assert (code, "out.safetensors" in out) == (0, True)
    copy = models.build("tsm/micro", num_classes=5, checkpoint=tmp_path / "out.safetensors")
    assert all(torch.equal(a, b) for a, b in zip(original.parameters(), copy.parameters(), strict=True))


@pytest.mark.slow  # builds and counts the whole zoo
@pytest.mark.exhaustive
def test_models_are_listed_as_json(reelbench):
    code, out, _ = reelbench("models", "--format", "json")
    rows = {row["model"]: row for row in json.loads(out)}
    assert code == 0
    assert rows["video_swin/t"]["params"] == 28158070
    assert set(rows) == set(models.names())


def test_the_doctor_names_what_it_looked_at(reelbench):
    code, out, _ = reelbench("doctor")
    assert "g++" in out
    assert "deepspeed" in out
    assert code in (0, 1)


@pytest.mark.parametrize("verb", [[], ["train"]])
def test_help_imports_nothing_heavy(verb):
    script = (
        f"import sys, contextlib, io\nsys.argv = {['reelbench', *verb, '--help']}\nfrom reelbench.harness import cli\n"
        "with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):\n    cli.main()\n"
        "print(sorted({m.split('.')[0] for m in sys.modules} & {'torch', 'numpy', 'pandas', 'nvidia', 'deepspeed'}))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
