"""A model's options from the command line and in a case: typed, checked, stored, and implied by the clip."""

import dataclasses

import pytest
import torch
from reelbench import models
from reelbench.errors import UserError
from reelbench.harness.cli.options import model_options
from reelbench.harness.training.job import Job
from reelbench.harness.training.weights import clip_of, trained_with
from reelbench.spec import Case, Clip, Recipe


def test_options_are_typed_by_the_constructor():
    given = ["frames=32", "pool_at=1,3", "pool_kernel=none", "drop_path=0.1"]
    with pytest.raises(UserError, match="unknown option of mvit/b_16x4 'drop_path'.*Known: .*pool_kernel"):
        model_options("mvit/b_16x4", given)
    assert model_options("mvit/b_16x4", given[:3]) == {"frames": 32, "pool_at": (1, 3), "pool_kernel": None}
    assert model_options("timesformer/b_space_only", ["time_shift=true"]) == {"time_shift": True}


@pytest.mark.parametrize("text", ["frames", "frames=many", "time_shift=perhaps"])
def test_malformed_options_are_named(text):
    with pytest.raises(UserError, match="--option " + text.partition("=")[0]):
        model_options("timesformer/micro", [text])


@pytest.mark.parametrize("name", ["timesformer/micro", "vivit/micro", "mvit/micro", "tps/micro", "dualformer/micro"])
def test_a_clip_of_another_length_rebuilds_the_model(name):
    clip = dataclasses.replace(models.find(name).clip, frames=16)
    models.check_clip(name, clip)
    model = models.build(name, num_classes=3, clip=clip).eval()
    with torch.inference_mode():
        assert model(torch.zeros(1, 3, 16, clip.size, clip.size)).shape == (1, 3)


@pytest.mark.parametrize(("name", "frames"), [("timesformer/b", 16), ("timesformer/b", 96), ("vivit/b", 32)])
def test_published_lengths_start_from_the_released_weights(name, frames):
    with torch.device("meta"):
        released = models.build(name).state_dict()
        longer = models.build(name, frames=frames)
        assert longer.time_embed.shape != released["time_embed"].shape
        assert "time_embed" not in models.load_checkpoint(longer, released).left


def test_a_clip_that_no_setting_takes_is_refused():
    with pytest.raises(UserError, match="vivit/micro cannot take 7 frames"):
        models.check_clip("vivit/micro", dataclasses.replace(models.find("vivit/micro").clip, frames=7))


def test_a_model_that_takes_the_clip_stays_as_it_is():
    clip = Clip(frames=8, size=48, short_side=48)
    assert models.build("timesformer/micro", clip=clip).grid == models.build("timesformer/micro").grid


def test_a_case_keeps_its_options_and_the_ids_of_others_stay():
    plain = Case(model="timesformer/micro")
    case = dataclasses.replace(plain, options={"frames": 4, "attention": "joint"})
    assert case.case_id != plain.case_id
    assert "options" not in plain.to_json()
    assert Case.from_json(case.to_json()) == case
    assert case.benchmark == "timesformer/micro-frames=4,attention=joint-cpu-fp32-eager"


def test_a_run_rebuilds_its_model_from_its_folder(tmp_path):
    clip = Clip(frames=16, size=32, short_side=32)
    job = Job(
        model="mvit/micro", data=tmp_path, recipe=Recipe(), clip=clip, out=tmp_path, options={"pool_at": (1, 2)}
    )  # fmt: skip
    job.write()
    for checkpoint in (tmp_path / "best.safetensors", tmp_path / "checkpoints" / "step_1"):
        assert trained_with("mvit/micro", checkpoint) == {"pool_at": (1, 2)}
        assert clip_of("mvit/micro", checkpoint) == clip
    assert trained_with("tsm/micro", tmp_path / "best.safetensors") == {}


def test_only_branches_are_fused():
    with pytest.raises(UserError, match="tsm/micro has no branches to fuse"):
        models.reparameterize(models.build("tsm/micro"))
