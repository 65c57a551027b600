"""Training in processes of its own: two ranks equal one, whatever the ZeRO stage, and a job is checked first."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from reelbench import models
from reelbench.errors import UserError
from reelbench.harness.suites.case import make_subject
from reelbench.harness.training import ds_config, launcher, loop, run_folder, schedule
from reelbench.harness.training.check import check_job
from reelbench.harness.training.engine import Step
from reelbench.harness.training.job import Job
from reelbench.harness.training.machines import Machines
from reelbench.pipelines.index import Index, from_videos
from reelbench.spec import Case, Recipe
from reelbench.tests import ranks
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

MODEL = "video_swin/micro"
RECIPE = Recipe(epochs=2, batch=8, lr=1e-3, warmup_epochs=1, clip_grad=1.0, crop="random_resized", flip=0.5)


def job(data: dict[str, Path], out: Path, **recipe) -> Job:
    chosen = dataclasses.replace(RECIPE, **recipe)
    return Job(model=MODEL, data=data["train"], recipe=chosen, clip=models.find(MODEL).clip, out=out, workers=1)


@pytest.fixture(scope="module")
def one_rank(tiny_synthetic, tmp_path_factory) -> tuple[Job, list[float]]:
    """A whole run, which all others are held against: by the line that the README gives for DeepSpeed's launcher."""
    made = job(tiny_synthetic, tmp_path_factory.mktemp("one"))
    made = dataclasses.replace(made, validation=tiny_synthetic["val"])
    place = ["--num_gpus", "1", "--master_port", str(launcher.free_port()), "--log_level", "error"]
    line = [sys.executable, "-m", "deepspeed.launcher.runner", *place, "--module", "reelbench.harness.training"]
    return made, ranks.losses(made, ranks.start([*line, *ranks.options(made)]))


@pytest.mark.slow  # a training through the launcher
def test_one_rank_leaves_everything_a_user_needs(one_rank):
    made, losses = one_rank
    assert len(losses) == 6  # 24 videos, batches of 8, two epochs
    assert {"best.safetensors", "last.safetensors", "train.jsonl", "validation.jsonl"} <= {
        p.name for p in made.out.iterdir()
    }
    assert json.loads((made.out / run_folder.CLASSES).read_text()) == list(Index.load(made.data).classes)
    model = models.build(MODEL, num_classes=8, checkpoint=made.out / "last.safetensors")
    assert all(torch.isfinite(p).all() for p in model.parameters())
    row = run_folder.read_log(made.out)[0]
    assert row["wait"] > 0
    assert row["compute"] > 0
    assert [r["step"] for r in run_folder.read_log(made.out, "validation")] == [3, 6]


@pytest.mark.slow  # three processes, each with its imports and decoders
def test_two_ranks_that_accumulate_see_the_losses_of_one_which_goes_on_from_their_checkpoint(
    one_rank, tiny_synthetic, tmp_path, monkeypatch
):
    """Through DeepSpeed's universal checkpoint; nothing is compiled for it."""
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path / "extensions"))
    made = job(tiny_synthetic, tmp_path, accumulate=2, zero=2)
    assert ranks.losses(made, *ranks.bare(made, 2)) == pytest.approx(one_rank[1], rel=2e-5)
    (tmp_path / "checkpoints" / "latest").write_text("step_3")
    resumed = dataclasses.replace(made, resume=True)
    assert ranks.losses(resumed, *ranks.bare(resumed)) == pytest.approx(one_rank[1], rel=2e-5)
    assert not (tmp_path / "extensions").exists()


@pytest.mark.slow  # five processes
@pytest.mark.exhaustive
def test_sharded_averages_go_on_with_another_number_of_ranks(one_rank, tiny_synthetic, tmp_path):
    """ZeRO 3: two ranks to the end, once more from step 2 with one rank, and from its step 4 with two."""
    made = dataclasses.replace(job(tiny_synthetic, tmp_path, zero=3, ema=0.9), save_steps=2, keep=4)
    assert ranks.losses(made, *ranks.bare(made, 2)) == pytest.approx(one_rank[1], rel=2e-5)
    expected = load_file(tmp_path / "last.safetensors")
    resumed = dataclasses.replace(made, resume=True)
    for step, count in ((2, 1), (4, 2)):
        (tmp_path / "last.safetensors").unlink()
        (tmp_path / "checkpoints" / "latest").write_text(f"step_{step}")
        assert ranks.losses(resumed, *ranks.bare(resumed, count)) == pytest.approx(one_rank[1], rel=2e-5)
        found = load_file(tmp_path / "last.safetensors")
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize(
    ("recipe", "expected"),
    [
        (Recipe(epochs=10, schedule="constant"), {0: 1.0, 99: 1.0}),
        (Recipe(epochs=10, schedule="step", milestones=(4, 8)), {0: 1.0, 39: 1.0, 40: 0.1, 80: 0.01}),
        (Recipe(epochs=10, warmup_epochs=2), {0: 0.1, 10: 0.55, 20: 1.0, 60: 0.5, 100: 0.0}),
        (Recipe(epochs=10, lr=1.0, min_lr=0.2), {0: 1.0, 50: 0.6, 100: 0.2}),
    ],
)
def test_the_learning_rate_follows_the_schedule(recipe, expected):
    for step, value in expected.items():
        assert schedule.factor(recipe, step, 10) == pytest.approx(value, abs=1e-9), step


def test_parameters_are_grouped_by_the_first_rule_that_matches():
    model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.LayerNorm(4))
    recipe = Recipe(lr=1.0, weight_decay=0.5, lr_rules=((r"^0\.weight", 0.1), (r"weight", 3.0)))
    groups = {(g["lr"], g["weight_decay"]): len(g["params"]) for g in schedule.parameter_groups(model, recipe)}
    assert groups == {(0.1, 0.5): 1, (1.0, 0.0): 2, (3.0, 0.0): 1}


def test_a_users_deepspeed_file_may_not_contradict_the_recipe(tmp_path):
    config = tmp_path / "ds.json"
    zero = {"stage": 1, "reduce_bucket_size": 5}
    config.write_text(json.dumps({"gradient_clipping": 5.0, "zero_optimization": zero}))
    with pytest.raises(UserError, match=r"gradient_clipping=5.0 against 1.0, zero_optimization.stage=1 against 0"):
        ds_config.settings(RECIPE, micro_batch=8, config=config)
    config.write_text(json.dumps({"gradient_clipping": "auto", "zero_optimization": zero}))
    merged = ds_config.settings(dataclasses.replace(RECIPE, zero=1), micro_batch=8, config=config)
    assert merged["zero_optimization"] == zero
    assert merged["gradient_clipping"] == 1.0
    config.write_text(json.dumps({"optimizer": {"type": "Adam"}, "bf16": {"enabled": True}}))
    with pytest.raises(UserError, match="optimizer, bf16: the recipe decides that"):
        ds_config.settings(RECIPE, micro_batch=8, config=config)
    config.write_text(json.dumps({"train_batch_size": 16}))
    with pytest.raises(UserError, match="train_batch_size=16 against 8"):
        ds_config.settings(RECIPE, micro_batch=8, config=config)
    config.write_text(json.dumps({"train_batch_size": "auto", "steps_per_print": 10}))
    merged = ds_config.settings(RECIPE, micro_batch=8, config=config)
    assert (merged["train_batch_size"], merged["steps_per_print"]) == (8, 10)
    config.write_text("[1]")
    with pytest.raises(UserError, match="no object but list: name a DeepSpeed JSON file"):
        ds_config.settings(RECIPE, micro_batch=8, config=config)
    config.write_text('{"gradient_clipping": 1.0, "gradient_clipping": 1.0}')
    with pytest.raises(UserError, match="gradient_clipping: given twice"):
        ds_config.settings(RECIPE, micro_batch=8, config=config)
    config.write_text("{")
    with pytest.raises(UserError, match="not JSON"):
        ds_config.settings(RECIPE, micro_batch=8, config=config)
    with pytest.raises(UserError, match="--offload needs ZeRO"):
        ds_config.settings(RECIPE, micro_batch=8, offload=True)


@pytest.mark.parametrize(
    ("recipe", "options", "said"),
    [
        ({"objective": "multilabel"}, {}, "its videos have one label each: --objective classify"),
        ({"rand_augment": "n9"}, {}, "unknown rand_augment policy 'n9'"),
        ({"batch": 32}, {}, "24 videos do not fill one batch of 32"),
        ({}, {"annotator": Path("x")}, "token labels need their annotator's weights, and nothing else does"),
        ({}, {"resume": True}, "nothing to resume"),
        ({}, {"offload": True}, "--offload needs ZeRO"),
    ],
)
def test_a_job_is_checked_before_anything_is_started(tiny_synthetic, tmp_path, recipe, options, said):
    made = dataclasses.replace(job(tiny_synthetic, tmp_path, **recipe), **options)
    with pytest.raises(UserError, match=said):
        check_job(made, 1)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"gradient_cliping": 1.0}, "gradient_cliping: DeepSpeed has no such setting"),
        ({"zero_optimization": {"bucket": 5}}, "bucket: Extra inputs are not permitted"),
        ({"zero_optimization": {"reduce_bucket_size": "big"}}, "reduce_bucket_size: Input should be a valid integer"),
        ({"flops_profiler": 3}, "DeepSpeed refuses it"),
        ({"nebula": {"enabled": True}}, "Nebula checkpointing has been removed"),
    ],
)
def test_deepspeed_reads_a_users_file_before_anything_is_started(tiny_synthetic, tmp_path, content, said):
    (tmp_path / "ds.json").write_text(json.dumps(content))
    made = dataclasses.replace(job(tiny_synthetic, tmp_path / "out"), deepspeed=tmp_path / "ds.json")
    with pytest.raises(UserError, match=f"ds.json: .*{said}"):
        check_job(made, 2)
    (tmp_path / "ds.json").write_text(json.dumps({"train_batch_size": 8, "wall_clock_breakdown": True}))
    check_job(made, 2)


@pytest.mark.slow  # looks a dozen jobs over, models included
def test_labels_and_classes_are_looked_at_before_anything_is_started(tiny_synthetic, tmp_path, capsys):
    index, made = Index.load(tiny_synthetic["train"]), job(tiny_synthetic, tmp_path / "out")

    def saved(name: str, labels: list[int], classes: tuple[str, ...] = index.classes) -> Path:
        table = index.table.copy()
        table["label"] = pd.Series([[label] for label in labels], dtype=table["label"].dtype)
        dataclasses.replace(index, table=table, classes=classes).save(tmp_path / name)
        return tmp_path / name

    right = [int(labels[0]) for labels in index.table["label"]]
    for name, wrong in (("high", 9), ("negative", -1)):
        path = saved(f"{name}.parquet", [*right[:5], wrong, *right[6:]])
        for field in ("data", "validation"):
            with pytest.raises(UserError, match=rf"{index[5].path.name}: label {wrong} is none of the 8 classes"):
                check_job(dataclasses.replace(made, **{field: path}), 1)
        check_job(dataclasses.replace(made, data=path, recipe=MASKED, model="mvit/micro", clip=MASKED_CLIP), 1)
    one = saved("one.parquet", [0] * 24, index.classes[:1])
    with pytest.raises(UserError, match=rf"one class \({index.classes[0]}\)"):
        check_job(dataclasses.replace(made, data=one), 1)
    capsys.readouterr()
    check_job(dataclasses.replace(made, data=saved("few.parquet", [label % 2 for label in right])), 1)
    assert f"6 of 8 classes have no video: {', '.join(index.classes[2:])}" in capsys.readouterr().err


MASKED, MASKED_CLIP = Recipe(objective="maskfeat", batch=8), models.find("mvit/micro").clip


@pytest.mark.slow  # looks a dozen jobs over, models included
def test_places_are_looked_at_before_anything_is_started(tiny_synthetic, tmp_path):
    made = job(tiny_synthetic, tmp_path / "file")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="--out .*file: is a file: name a folder"):
        check_job(made, 1)
    with pytest.raises(UserError, match="cannot be written to: Not a directory"):
        check_job(dataclasses.replace(made, out=tmp_path / "file" / "run"), 1)


def test_an_overflow_changes_no_average(tiny_synthetic, tmp_path):
    """The step of a loss scale that was too large is taken back by the optimizer: the weights are those before."""
    updates: list[int] = []
    made = job(tiny_synthetic, tmp_path)
    recipe = dataclasses.replace(made.recipe, ema=0.9)
    ema = SimpleNamespace(update=lambda: updates.append(1))

    def step(*, updated: bool) -> None:
        found = Step(1.0, None, skipped=False, updated=updated, stop_requested=False, losses=(1.0,))
        run = SimpleNamespace(
            job=made, recipe=recipe, world=SimpleNamespace(rank=0, device=torch.device("cpu")), steps_per_epoch=3,
            position=loop.Position(), ema=ema, engine=SimpleNamespace(train_step=lambda *_, **__: found),
            _arguments=lambda *_: iter(()), _write=lambda *_: None, _due=lambda: False,
        )  # fmt: skip
        nothing = SimpleNamespace(waited=0.0, advance=lambda *_: None)
        loop.Run.step(run, nothing, nothing, stop_requested=False)

    step(updated=False)
    assert not updates
    step(updated=True)
    assert updates


@pytest.mark.parametrize(
    ("size", "length", "videos"),
    [((320, 240), 300, 32), ((1920, 1080), 300, 5), ((1920, 1080), 4, 32), ((7680, 4320), 300, 1)],
)
def test_a_validation_batch_is_bounded_by_what_its_largest_videos_decode_to(tiny_index, size, length, videos):
    """32 frames of 1080p are 190 MiB; shorter videos have fewer to decode."""
    small = tiny_index[0]
    large = dataclasses.replace(small, width=size[0], height=size[1], frames=length)
    index = from_videos([small, large], tiny_index.classes, tiny_index.root)
    assert loop.within_memory(index, frames=32) == videos


def test_training_says_when_it_validates_fewer_videos_at_a_time(tiny_synthetic, tmp_path, monkeypatch):
    made = dataclasses.replace(job(tiny_synthetic, tmp_path), validation=tiny_synthetic["val"])
    monkeypatch.setattr(loop, "DECODED", 3 * 64 * 64 * 3 * made.clip.frames)
    asked, notes = {}, []

    class AskedError(Exception):
        pass

    def opened(index: Index, **options):
        asked.update(options)
        raise AskedError

    monkeypatch.setattr(loop.pipelines, "open", opened)
    engine = SimpleNamespace(network=None, engine=SimpleNamespace(eval=lambda: None))
    run = SimpleNamespace(job=made, recipe=made.recipe, world=SimpleNamespace(rank=0, size=1), engine=engine)
    with pytest.raises(AskedError):
        loop.Run._validate(run, SimpleNamespace(note=notes.append))
    assert asked["batch"] == 3
    assert notes[0].startswith("validation: 3 videos at a time")


def test_a_validation_set_is_looked_at_before_the_first_epoch(tiny_synthetic, tmp_path):
    index = Index.load(tiny_synthetic["val"])
    dataclasses.replace(index, table=index.table.iloc[:0]).save(tmp_path / "empty.parquet")
    made = dataclasses.replace(job(tiny_synthetic, tmp_path), validation=tmp_path / "empty.parquet")
    with pytest.raises(UserError, match="holds no videos: leave --val away"):
        check_job(made, 1)


def test_a_monitor_without_its_package_is_told(tiny_synthetic, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UserError, match="--monitor wandb needs its package: pip install wandb"):
        check_job(dataclasses.replace(job(tiny_synthetic, tmp_path), monitors=("wandb",)), 1)


@pytest.mark.exhaustive
@pytest.mark.slow  # a training in a process of its own, with W&B's beside it
def test_tensorboard_and_wandb_follow_every_step(tiny_synthetic, tmp_path):
    made = job(tiny_synthetic, tmp_path / "out", epochs=0.67)
    made = dataclasses.replace(made, monitors=("tensorboard", "wandb"), validation=tiny_synthetic["val"])
    line = [sys.executable, "-m", "reelbench.harness.training", *ranks.options(made)]
    code, output = ranks.finish(ranks.start(line, **ranks.place(), WANDB_MODE="offline"))
    assert code == 0, output[-3000:]
    assert "will be ignored" not in output  # W&B leaves out what lies behind the step it has seen
    events = EventAccumulator(str(made.out / "monitor" / "tensorboard")).Reload()
    rows = run_folder.read_log(made.out)
    names = {"loss", "lr", "grad_norm", "clips_s", "wait", "compute", "memory_mib"}
    assert set(events.Tags()["scalars"]) == {f"train/{name}" for name in (*names, "top1")}
    for name in names:
        assert [e.step for e in events.Scalars(f"train/{name}")] == [0, 1]
        values = [e.value for e in events.Scalars(f"train/{name}")]
        assert values == pytest.approx([row[name] for row in rows], rel=1e-6)
    (run,) = (made.out / "monitor" / "wandb").glob("offline-run-*/run-*.wandb")
    assert all(f"train/{name}".encode() in run.read_bytes() for name in names)


def test_a_run_that_starts_anew_forgets_what_an_earlier_one_skipped(tmp_path):
    (tmp_path / run_folder.PASSED_OVER).write_text('[["a.mp4", "gone"]]')
    run_folder.Log(tmp_path, 3)
    assert run_folder.read_passed_over(tmp_path) == [("a.mp4", "gone")]
    run_folder.Log(tmp_path, 0)
    assert run_folder.read_passed_over(tmp_path) == []


def test_the_steps_of_a_long_log_are_counted_from_its_end(tmp_path):
    assert run_folder.steps_done(tmp_path) == 0
    log = run_folder.Log(tmp_path, 0)
    assert run_folder.steps_done(tmp_path) == 0
    for step in range(100):
        log.write("train", {"step": step, "loss": 1 / (step + 1), "clips_s": 1234.5})
    with (tmp_path / "train.jsonl").open("a") as file:
        file.write('{"step": 100, "lo')  # killed while it wrote
    assert (tmp_path / "train.jsonl").stat().st_size > run_folder.TAIL
    assert run_folder.steps_done(tmp_path) == 100


def test_a_case_is_tested_on_the_clip_that_its_recipe_trains_on(tiny_index):
    own = models.find(MODEL).clip
    sparse, given = dataclasses.replace(own, sampling="uniform"), dataclasses.replace(own, stride=1)
    case = Case(model=MODEL, recipe=dataclasses.replace(RECIPE, clip=sparse))
    assert make_subject(case, tiny_index, None, []).clip == sparse
    assert make_subject(dataclasses.replace(case, clip=given), tiny_index, None, []).clip == given
    assert make_subject(Case(model=MODEL, recipe=RECIPE), tiny_index, None, []).clip == own


def test_contradicting_options_are_told():
    with pytest.raises(UserError, match="unknown monitor 'csw': did you mean 'csv'"):
        Job(model=MODEL, data=Path(), recipe=RECIPE, clip=models.find(MODEL).clip, out=Path(), monitors=("csw",))
    with pytest.raises(UserError, match="--init-from .* and --pretrained"):
        Job(
            model=MODEL, data=Path(), recipe=RECIPE, clip=models.find(MODEL).clip, out=Path(), init_from=Path("a"),
            pretrained=Path("b"),
        )  # fmt: skip
    with pytest.raises(UserError, match="--node-rank needs --hostfile, and --master"):
        Machines(node_rank=0)
    with pytest.raises(UserError, match="no such file: write a line"):
        Machines(hostfile=Path("/nowhere/hosts"))


@pytest.mark.slow  # a training through the launcher
@pytest.mark.exhaustive
def test_a_run_is_repeated_from_its_job(one_rank, tmp_path):
    """The line that the README gives: the losses of the first run, in another folder."""
    made, losses = one_rank
    path = made.out / "job.json"
    line = [sys.executable, "-m", "reelbench.harness.cli", "train", "--job", path, "--out", tmp_path / "again"]
    code, output = ranks.finish(ranks.start(list(map(str, line))))
    assert code == 0, output[-3000:]
    again = Job.read(tmp_path / "again" / "job.json")
    assert again == dataclasses.replace(Job.read(path), out=again.out)
    assert [row["loss"] for row in run_folder.read_log(again.out)] == losses
