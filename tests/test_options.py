"""`reelbench train` from the fields of Recipe, Job, Clip and Machines, and the job that it writes and repeats."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest
from reelbench import models
from reelbench.errors import UserError
from reelbench.harness import probe
from reelbench.harness.cli import fields
from reelbench.harness.training import launch
from reelbench.harness.training.job import PROBE, Job
from reelbench.harness.training.machines import Machines
from reelbench.spec import Clip, Recipe

MODEL = "video_swin/t"
KINETICS = models.find(MODEL).recipes["kinetics400"]
BY_HAND = {
    "model",
    "recipe",
    "clip",
    "device",
    "options",
}  # of a Job: the argument, --recipe, the recipe's --clip, --device
SAMPLES: dict[Any, tuple[str, Any]] = {
    int: ("3", 3),
    float: ("0.25", 0.25),
    str: ("x", "x"),
    Path: ("/a/b", Path("/a/b")),
    tuple[float, float]: ("0.2,0.75", (0.2, 0.75)),
    tuple[int, int]: ("230,300", (230, 300)),
    tuple[float, float, float]: ("1,2,3.5", (1.0, 2.0, 3.5)),
    tuple[int, ...]: ("4,5,6", (4, 5, 6)),
    tuple[float, ...]: ("2,4.5", (2.0, 4.5)),
    tuple[str, ...]: ("csv,wandb", ("csv", "wandb")),
    tuple[tuple[int, int], ...]: ("2=3 4=5", ((2, 3), (4, 5))),
    tuple[tuple[str, float], ...]: (r"^a=b,{1,2}$=0.1 =1", ((r"^a=b,{1,2}$", 0.1), ("", 1.0))),
}
# What a field needs beside it.
BESIDE: dict[str, dict[str, Any]] = {
    "batch": {"accumulate": 1},
    "accumulate": {"batch": 6},
    "nesterov": {"optimizer": "sgd"},
    "annotator": {"objective": "token_label"},
}


def options(kind: type) -> list[str]:
    return [f.name for f in dataclasses.fields(kind) if f.name not in (BY_HAND if kind is Job else set())]


def field(kind: type, name: str) -> dataclasses.Field[Any]:
    return next(f for f in dataclasses.fields(kind) if f.name == name)


def sample(kind: type, name: str, usual: Any = None) -> tuple[str, Any]:
    """Return a value of a field, as it is written and as it is; of several choices one that is not the usual."""
    hint = get_type_hints(kind)[name]
    hint = next((h for h in get_args(hint) if h is not type(None)), hint) if type(None) in get_args(hint) else hint
    if get_origin(hint) is Literal:
        chosen = next(choice for choice in get_args(hint) if choice != usual)
        return str(chosen), chosen
    return SAMPLES[hint]


@pytest.fixture
def described(reelbench, monkeypatch, tmp_path):
    """Return what `reelbench train` makes of its options: the job, and the machines."""
    monkeypatch.chdir(tmp_path)
    for place in (launch, probe):
        monkeypatch.setattr(place, "run", lambda *made: made_of.append(made))
    made_of: list[tuple[Job, Machines]] = []

    def describe(*arguments: object) -> tuple[Job, Machines]:
        code, _, err = reelbench("train", *arguments, *([] if "--device" in arguments else ["--device", "cpu"]))
        assert code == 0, err
        return made_of.pop()

    return describe


@pytest.mark.parametrize("name", [name for name in options(Recipe) if name != "clip"])
def test_every_field_of_a_recipe_can_be_replaced_by_a_flag(described, name):
    made = field(Recipe, name)
    beside = BESIDE.get(name, {})
    more = [part for other, value in beside.items() for part in (fields.flag(field(Recipe, other)), value)]
    if get_type_hints(Recipe)[name] is bool:
        given, value = [fields.flag(made)], True
    else:
        text, value = sample(Recipe, name, getattr(KINETICS, name))
        given = [fields.flag(made), text]
    assert value != getattr(KINETICS, name)
    job, _ = described(MODEL, "--data", "x.parquet", "--recipe", "kinetics400", *given, *more)
    assert job.recipe == dataclasses.replace(KINETICS, **{name: value}, **beside)


@pytest.mark.parametrize("name", options(Job))
def test_every_field_of_a_job_has_a_flag(described, name):
    if get_type_hints(Job)[name] is bool:
        given, value = [fields.flag(field(Job, name))], True
    else:
        text, value = ("4x3", "4x3") if name == "train_views" else sample(Job, name, field(Job, name).default)
        given = [fields.flag(field(Job, name)), text, *(["--probe", "linear"] if name == "train_views" else [])]
    assert value != field(Job, name).default
    job, _ = described(MODEL, *([] if name == "data" else ["--data", "x.parquet"]), *given)
    assert getattr(job, name) == value
    assert job.recipe == (PROBE if name in ("probe", "train_views") else Recipe())
    assert job.clip == models.find(MODEL).clip


def test_what_a_job_gets_by_hand_is_there_too(described, tmp_path):
    clip = Clip(frames=8, sampling="uniform")
    (tmp_path / "mine.json").write_text(json.dumps(dataclasses.asdict(clip)))
    (tmp_path / "recipe.json").write_text(json.dumps({"epochs": 7}))
    given = [MODEL, "--data", "x", "--recipe", "recipe.json", "--clip", "mine.json", "--size", 112, "--gpus", 1]
    job, machines = described(*given, "--sampling", "segments", "--local_rank", 0)
    assert (job.model, job.device, job.recipe) == (MODEL, "cpu", Recipe(epochs=7, clip=clip))
    assert job.clip == dataclasses.replace(clip, size=112, sampling="segments")
    assert machines == Machines()


@pytest.mark.parametrize("name", [f.name for f in dataclasses.fields(Clip)])
def test_every_field_of_a_clip_has_a_flag(described, name):
    text, value = {"size": ("96", 96), "short_side": ("300", 300)}.get(name) or sample(
        Clip, name, getattr(models.find(MODEL).clip, name)
    )
    job, _ = described(MODEL, "--data", "x", fields.flag(field(Clip, name)), text)
    assert job.clip == dataclasses.replace(models.find(MODEL).clip, **{name: value})


def test_the_machines_are_named_by_flags(described, tmp_path):
    (tmp_path / "hosts").write_text("a slots=2\n")
    place = ["--hostfile", "hosts", "--node-rank", 1, "--master", "a:29500"]
    assert described(MODEL, "--data", "x", "--gpus", 3)[1] == Machines(ranks=3)
    assert described(MODEL, "--data", "x", *place)[1] == Machines(1, Path("hosts"), 1, "a:29500")


def test_the_help_shows_every_field_once_and_in_its_section(reelbench):
    code, out, _ = reelbench("train", "--help")
    assert code == 0
    flags = Counter(word for line in out.splitlines() for word in line.split()[:1] if word.startswith("--"))
    sections = {text.split("\n", 1)[0]: " ".join(text.split()) for text in out.split("\n\n")}
    for kind in (Job, Machines, Recipe, Clip):
        for made in dataclasses.fields(kind):
            if kind is Job and made.name in BY_HAND:
                continue
            assert flags[fields.flag(made)] == 1, made.name
            assert made.metadata["help"] in sections[f"{kind.__name__}:"]


def test_none_empties_a_field_that_may_be_empty(described, tmp_path):
    full = {"drop_path": 0.3, "lr_rules": [["head", 9.0]], "rand_augment": "imgaug_default", "clip": {"frames": 4}}
    (tmp_path / "full.json").write_text(json.dumps(full))
    given = [MODEL, "--data", "x", "--recipe", "full.json", "--val", "y"]
    assert described(*given)[0].recipe != Recipe()
    emptied = [part for name in full for part in (fields.flag(field(Recipe, name)), "none")]
    job, _ = described(*given, *emptied, "--val", "none")
    assert job.recipe == Recipe()
    assert job.clip == models.find(MODEL).clip
    assert job.validation is None


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--wieght-decay", "1"], "unknown option --wieght-decay: did you mean --weight-decay"),
        (["--lr", "fast"], "--lr fast: write FLOAT"),
        (["--gpus", "2.5"], "--gpus 2.5: write INT"),
        (["--gpus", "0"], "--gpus 0: at least 1"),
        (["--workers", "0"], "--workers 0: at least 1"),
        (["--skip-nan", "-1"], "--skip-nan -1: at least 0"),
        (["--schedule", "cosin"], "unknown --schedule 'cosin': did you mean 'cosine'?"),
        (["--zero", "4"], "unknown --zero '4'"),
        (["--betas", "0.9"], "--betas 0.9: write FLOAT,FLOAT"),
        (["--milestones", "4;8"], "--milestones 4;8: write FLOAT,..."),
        (["--flip-swaps", "2,3"], '--flip-swaps 2,3: write "INT=INT ..."'),
        (["--flip-swaps", "2=x"], "--flip-swaps 2=x: write"),
        (["--clip", "none.json"], "none.json: No such file or directory: give a JSON file of Clip fields"),
        (["--monitor", "csw"], "unknown monitor 'csw': did you mean 'csv'"),
        (["--job"], "'--job' requires an argument"),
        (["more"], "unexpected extra argument"),
    ],
)
def test_a_mistake_in_an_option_is_told_in_one_line(reelbench, given, said):
    code, _, err = reelbench("train", MODEL, "--data", "x.parquet", "--device", "cpu", *given)
    assert code == 2
    assert len(err.splitlines()) == 1, err
    assert said in err


def test_other_verbs_mend_a_misspelt_option_too(reelbench):
    code, _, err = reelbench("data", "check", "x.parquet", "--dep")
    assert (code, err) == (
        2, "reelbench: unknown option --dep: did you mean --deep or --help? (see `reelbench data check --help`)\n",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("given", "said"), [([], "no model: `reelbench train MODEL --data INDEX`"), ([MODEL], "no data: --data INDEX")]
)
def test_a_job_needs_a_model_and_data(reelbench, given, said):
    code, _, err = reelbench("train", *given, "--device", "cpu")
    assert (code, said in err, len(err.splitlines())) == (2, True, 1)


def a_job(out: Path, **more: Any) -> Job:
    paths = {"data": Path("train.parquet"), "validation": Path("/data/val.parquet")}
    return Job(model=MODEL, recipe=KINETICS, clip=models.find(MODEL).clip, out=out, **{**paths, **more})


def test_a_job_is_read_as_it_was_written_wherever_its_folder_went(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = a_job(Path("run"), monitors=("csv",), resume=True, init_from=Path("w.pth"), seed=4)
    assert made.write() == Path("run/job.json")
    absolute = {"data": tmp_path / "train.parquet", "init_from": tmp_path / "w.pth"}
    assert sorted(p.name for p in Path("run").iterdir()) == ["clip.json", "job.json"]
    Path("run").rename("moved")
    monkeypatch.chdir("/")
    assert Job.read(tmp_path / "moved" / "job.json") == dataclasses.replace(made, out=tmp_path / "moved", **absolute)
    assert str(tmp_path / "run") not in (tmp_path / "moved" / "job.json").read_text()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (None, "no Job (Expecting value"),
        ({"colour": 1}, "Job: unknown field colour (written by another version?)"),
        ({"recipe": {"lrate": 1}}, "Recipe: unknown field lrate"),
        ({"recipe": {"lr": "fast"}}, "no Job ("),
        ({"recipe": "x"}, "unknown field x"),
        ({"recipe": None}, "a job needs a recipe and a clip"),
        ({"clip": {"frames": 0}}, "frames=0 must be a positive integer"),
        ({"clip": [8]}, "no Job ("),
        ({"data": 5}, "no Job ("),
        ({"workers": "two"}, "no Job ("),
        ({"workers": 0}, "--workers 0: at least 1"),
        ({"device": "tpu"}, "unknown device 'tpu'"),
        ({"decoder": "nvdec"}, "unknown decoder 'nvdec'"),
    ],
)
def test_a_broken_job_is_told_in_one_line(reelbench, tmp_path, change, said):
    path = a_job(tmp_path).write()
    path.write_text("" if change is None else json.dumps({**json.loads(path.read_text()), **change}))
    code, _, err = reelbench("train", "--job", path, "--device", "cpu")
    assert code == 2
    assert len(err.splitlines()) == 1, err
    assert said in err
    assert str(path) in err


def test_a_job_that_is_not_there_or_lacks_a_field_is_told(tmp_path):
    with pytest.raises(UserError, match="No such file"):
        Job.read(tmp_path / "job.json")
    (tmp_path / "job.json").write_text('{"model": "tsm/micro"}')
    with pytest.raises(UserError, match=r"no Job \(.*missing.*data"):
        Job.read(tmp_path / "job.json")


def test_a_run_is_repeated_with_other_options(described, tmp_path):
    made = a_job(tmp_path / "run", resume=True, keep=5, data=tmp_path / "x.parquet")
    made = dataclasses.replace(made, clip=dataclasses.replace(made.clip, frames=16))
    path = made.write()
    assert described("--job", path)[0] == made
    job, _ = described("--job", path, "--out", "new", "--no-resume", "--lr", 0.5, "--stride", 7, "--val", "none")
    assert job == dataclasses.replace(
        made, out=Path("new"), resume=False, recipe=dataclasses.replace(KINETICS, lr=0.5), validation=None,
        clip=dataclasses.replace(made.clip, stride=7),
    )  # fmt: skip
    other, _ = described("tsm/r50_8f", "--job", path, "--recipe", "sthv2")
    tsm = models.find("tsm/r50_8f")
    assert (other.recipe, other.clip, other.keep) == (tsm.recipes["sthv2"], tsm.clip, 5)
