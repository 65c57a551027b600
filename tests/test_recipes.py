"""Published recipes: parameter groups and learning rates as the official constructors really make them."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, replace

import pytest
import torch
from reelbench import models
from reelbench.errors import UserError
from reelbench.harness.cli import fields
from reelbench.harness.training import job, schedule, stream
from reelbench.models.maskfeat import MaskFeat
from reelbench.spec import Recipe, from_fields
from reelbench.tests import golden_models as goldens

GOLDEN = goldens.read("recipes.json")
TSM = {
    ("r50_8f", "kinetics400"): "r50_8xb16-1x1x8-50e_kinetics400-rgb",
    ("r50_8f", "kinetics400_100e"): "r50_8xb16-1x1x8-100e_kinetics400-rgb",
    ("r50_8f", "kinetics400_dense"): "r50_8xb16-dense-1x1x8-50e_kinetics400-rgb",
    ("r50_8f", "sthv2"): "r50_8xb16-1x1x8-50e_sthv2-rgb",
    ("r50_16f", "kinetics400"): "r50_8xb16-1x1x16-50e_kinetics400-rgb",
    ("r50_16f", "sthv2"): "r50_8xb16-1x1x16-50e_sthv2-rgb",
    ("r101_8f", "sthv2"): "r101_8xb16-1x1x8-50e_sthv2-rgb",
    ("r50_nl_dot_8f", "kinetics400"): "r50-nl-dot-product_8xb16-1x1x8-50e_kinetics400-rgb",
    ("r50_nl_gauss_8f", "kinetics400"): "r50-nl-gaussian_8xb16-1x1x8-50e_kinetics400-rgb",
    ("r50_nl_embedded_8f", "kinetics400"): "r50-nl-embedded-gaussian_8xb16-1x1x8-50e_kinetics400-rgb",
    ("mobilenetv2_8f", "kinetics400"): "mobilenetv2_8xb16-1x1x8-100e_kinetics400-rgb",
    ("mobileone_s4_16f", "kinetics400"): "mobileone-s4_8xb16-1x1x16-50e_kinetics400-rgb",
}
VIT_GROUPS = {
    ("timesformer/b", "kinetics400"): "timesformer sgd (layer_decay ignored)",
    ("mvit/b_16x4_maskfeat", "finetune"): "mvit finetune adamw layer_decay 0.75",
}
VIT_CURVES = {
    ("mvit/b_16x4_maskfeat", "maskfeat"): "maskfeat_pretrain lr8e-4 bs16x8 300ep mim",
    ("mvit/b_16x4_maskfeat", "finetune"): "mvit_finetune lr0.005 bs8x8 200ep",
    ("timesformer/b", "kinetics400"): "timesformer/vivit lr0.005 bs8x8 30ep",
    ("vivit/b", "kinetics400"): "timesformer/vivit lr0.005 bs8x8 30ep",
}


def recipe_of(model: str, name: str) -> Recipe:
    return models.find(model).recipes[name]


def build(model: str, classes: int = 400) -> torch.nn.Module:
    with torch.device("meta"):
        return models.build(model, num_classes=classes)


def sizes(groups: Iterable[tuple[float, float, int]]) -> dict[tuple[str, str], int]:
    """Add up the numbers that share a learning rate and a weight decay."""
    found: Counter[tuple[str, str]] = Counter()
    for lr, decay, count in groups:
        found[f"{lr:.6e}", f"{decay:.6e}"] += count
    return dict(found)


def ours(model: torch.nn.Module, recipe: Recipe) -> dict[tuple[str, str], int]:
    groups = schedule.parameter_groups(model, recipe)
    return sizes((g["lr"], g["weight_decay"], sum(p.numel() for p in g["params"])) for g in groups)


def official(groups: list[list[float]]) -> dict[tuple[str, str], int]:
    return sizes((lr, decay, int(count)) for lr, decay, _, count in groups)


@pytest.mark.parametrize(("address", "config"), TSM.items(), ids=lambda x: "-".join(x) if isinstance(x, tuple) else "")
def test_tsm_follows_mmaction(address, config):
    model, name = f"tsm/{address[0]}", address[1]
    golden = GOLDEN["tsm"][f"tsm_imagenet-pretrained-{config}.py"]
    recipe = recipe_of(model, name)
    recipe = replace(recipe, lr=recipe.lr_at(128))  # the constructors ran before any scaling
    assert ours(build(model, 174 if "sthv2" in config else 400), recipe) == official(golden["groups"])
    curve = [recipe.lr * schedule.factor(recipe, 7 * epoch + 3, 7) for epoch in range(golden["epochs"])]
    expected = [lr for _, lr, epochs in golden["lr_runs"] for _ in range(epochs)]
    assert curve == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("address", "case"), VIT_GROUPS.items())
def test_transformers_are_grouped_as_officially(address, case):
    assert ours(build(address[0]), recipe_of(*address)) == official(GOLDEN["groups"][case])


def test_maskfeat_trains_the_decoder_and_no_classifier():
    model = MaskFeat(build("mvit/b_16x4_maskfeat")).encoder
    del model.cls_head
    assert ours(model, recipe_of("mvit/b_16x4_maskfeat", "maskfeat")) == official(
        GOLDEN["groups"]["maskfeat pretrain adamw"]
    )


@pytest.mark.parametrize(("address", "case"), VIT_CURVES.items())
def test_transformers_warm_up_and_decline_by_epoch(address, case):
    recipe, expected = recipe_of(*address), GOLDEN["lr"][case]
    curve = [recipe.lr * schedule.factor(recipe, 5 * epoch + 4, 5) for epoch in range(len(expected))]
    assert curve == pytest.approx(expected, rel=1e-5, abs=1e-12)


def test_the_weight_decay_of_the_vits_rises():
    recipe = recipe_of("timesformer/b", "kinetics400")
    found = [schedule.weight_decay(recipe, 5 * epoch + 2, 5) for epoch in range(30)]
    assert found == pytest.approx(GOLDEN["weight_decay"], rel=1e-4)
    assert schedule.weight_decay(Recipe(weight_decay=0.3), 9, 5) == 0.3


def test_video_swin_spares_only_its_tables_from_decay():
    """Counts of the official constructor on Video Swin-B, Something-Something v2."""
    groups = schedule.parameter_groups(build("video_swin/b_w16", 174), recipe_of("video_swin/b_w16", "sthv2"))
    found = {(round(g["lr"], 9), g["weight_decay"]): len(g["params"]) for g in groups}
    assert found == {(3e-4, 0.0): 24, (3e-5, 0.05): 303, (3e-4, 0.05): 2}


def test_dualformer_spares_only_its_position_encoding():
    """Counts of the official constructor on DualFormer-T, Kinetics-400."""
    groups = schedule.parameter_groups(build("dualformer/t"), recipe_of("dualformer/t", "kinetics400"))
    found = {(round(g["lr"], 9), g["weight_decay"]): len(g["params"]) for g in groups}
    assert found == {(1e-4, 0.02): 292, (1e-3, 0.0): 8, (1e-3, 0.02): 2}


@pytest.mark.parametrize("address", [("video_swin/t", "kinetics400"), ("dualformer/s", "kinetics400")])
def test_mmcv_warms_up_by_step_beneath_a_cosine_by_epoch(address):
    recipe, steps = recipe_of(*address), 10
    for step in (0, 9, 10, 24, 25, 29, 150, 299):
        regular = 0.5 * (1 + math.cos(math.pi * (step // steps) / 30))
        warm = 1 - (1 - min(step / 25, 1)) * 0.9
        assert schedule.factor(recipe, step, steps) == pytest.approx(regular * warm, abs=1e-12), step


@pytest.mark.parametrize("address", [("video_swin/t", "kinetics400"), ("dualformer/s", "hmdb51")])
def test_accumulation_does_not_bend_the_warm_up(address):
    """Officially the rate rises with every micro-batch, and a step takes its last one's: under a step ahead of ours."""
    recipe, steps = recipe_of(*address), 10
    warm, whole = round(recipe.warmup_epochs * steps), replace(recipe, accumulate=1)
    for step in range(warm):
        assert schedule.factor(recipe, step, steps) == schedule.factor(whole, step, steps)
        micro_batch = step * recipe.accumulate + recipe.accumulate - 1
        regular = 0.5 * (1 + math.cos(math.pi * (step // steps) / recipe.epochs))
        official = regular * (1 - (1 - micro_batch / (warm * recipe.accumulate)) * 0.9)
        assert 0 < official - schedule.factor(recipe, step, steps) < 0.9 / warm, step


def test_the_learning_rate_is_scaled_with_the_batch_where_asked():
    recipe = Recipe(lr=0.02, batch=128)
    assert job.adjust(recipe, batch=64, accumulate=2).lr == 0.02
    assert job.adjust(recipe, batch=64, auto_scale_lr=True).lr == 0.01
    assert job.adjust(replace(recipe, auto_scale_lr=True), batch=256).lr == 0.04
    assert job.adjust(replace(recipe, auto_scale_lr=True), batch=256, auto_scale_lr=False).lr == 0.02
    assert job.adjust(recipe, lr=0.5, batch=64, auto_scale_lr=True).lr == 0.25
    assert job.adjust(replace(recipe, auto_scale_lr=True), lr=0.5, batch=64).lr == 0.5


def test_every_published_recipe_is_there():
    found = {(name, recipe) for name in models.names() for recipe in models.find(name).recipes}
    assert {
        ("video_swin/t", "kinetics400"), ("video_swin/s", "kinetics400"), ("video_swin/b", "kinetics400"),
        ("video_swin/b", "kinetics400_22k"), ("video_swin/b", "kinetics600_22k"), ("video_swin/b_w16", "sthv2"),
        ("tps/swin_t", "kinetics400"), ("tps/swin_t", "sthv1"), ("tps/swin_t", "sthv2"), ("tps/swin_t", "diving48"),
        ("dualformer/t", "kinetics400"), ("dualformer/s", "kinetics400"), ("dualformer/b", "kinetics400"),
        ("dualformer/b", "kinetics600"), ("dualformer/t", "kinetics400_token_label"),
        ("dualformer/s", "kinetics400_token_label"), ("dualformer/s", "diving48"), ("dualformer/s", "hmdb51"),
        ("dualformer/s", "ucf101"), ("dualformer/t_16f", "ucf101"), ("timesformer/b", "kinetics600"),
        *((f"tsm/{model}", recipe) for model, recipe in TSM), *VIT_CURVES,
    } <= found  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"nesterov": True}, "nesterov=True needs optimizer='sgd'"),
        ({"objective": "token_label"}, "objective='token_label' and annotator belong together"),
        ({"ema": 1.0}, "ema=1.0 must lie in 0..1"),
        ({"erase": 1.5}, "erase=1.5 must lie in 0..1"),
        ({"schedule_by": "minute"}, "schedule_by='minute' is none of step, epoch"),
    ],
)
def test_a_recipe_checks_itself(fields, said):
    with pytest.raises(UserError, match=said):
        Recipe(**fields)


def test_every_augmentation_that_a_recipe_names_exists():
    for name in models.names():
        for recipe in models.find(name).recipes.values():
            stream.transform(recipe)
    off = fields.parse(str, "none", "--rand-augment")
    assert job.adjust(recipe_of("tps/swin_t", "sthv2"), rand_augment=off, erase=0.0).rand_augment == ""
    with pytest.raises(UserError, match="unknown rand_augment policy 'imgaug_n4'"):
        stream.transform(Recipe(rand_augment="imgaug_n4"))


def test_a_recipe_brings_its_clip_and_travels_as_json():
    recipe = recipe_of("dualformer/s", "diving48")
    clip = models.choose_clip("dualformer/s", recipe)
    assert (clip.frames, clip.stride, clip.std) == (32, 4, (1.0, 1.0, 1.0))
    assert from_fields(Recipe, json.loads(json.dumps(asdict(recipe)))) == recipe
