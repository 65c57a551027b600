"""Checkpoints of other origins open: the same logits as the model that wrote them, and every name at full size."""

import gzip
import json
import re
from functools import partial

import pytest
import torch
from reelbench import models
from reelbench.models import _match, _mvit_names, _positions, _swin_names, _timesformer_names, _tsm_names, _vit_names
from reelbench.models._naming import State
from reelbench.models._state_dict import Candidate
from reelbench.tests import golden_models as goldens

CASES = goldens.read("namings.json")["cases"]
NAMES = json.loads(gzip.decompress((goldens.FOLDER / "foreign_names.json.gz").read_bytes()))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["source"].replace(" ", "_"))
def test_a_file_gives_the_logits_of_the_model_that_wrote_it(case):
    classes = len(case["logits"][0])
    weights = {case["how"]: goldens.filled(case)}
    model = models.build(case["model"], num_classes=classes, **weights, **case["overrides"]).eval()
    clip = goldens.clip(case)
    if case["how"] == "pretrained":  # the golden is the image's features
        _make_classifier_the_identity(model)
        clip = clip if "timesformer" in case["model"] else clip.expand(-1, -1, 8, -1, -1)
    with torch.inference_mode():
        # An image transformer's blocks have another epsilon than the video model's.
        tolerance = 5e-4 if case["how"] == "pretrained" and "timesformer" in case["model"] else 1e-5
        assert goldens.difference(model(clip), case["logits"]) < tolerance


def _make_classifier_the_identity(model: torch.nn.Module) -> None:
    classifier = next(
        m for name, m in model.named_modules() if name in ("cls_head", "cls_head.fc_cls") and hasattr(m, "in_features")
    )
    with torch.no_grad():
        classifier.weight.copy_(torch.eye(len(classifier.weight)))
        classifier.bias.zero_()


VIDEO = {
    "fb_timesformer_b_divst": "timesformer/b",
    "hf_timesformer_base": "timesformer/b",
    "mit_tsm_mobilenetv2": "tsm/mobilenetv2_8f",
    "mit_tsm_r50": "tsm/r50_8f",
    "mit_tsm_r50_nl": "tsm/r50_nl_embedded_8f",
    "pyslowfast_mvit_b_16x4_conv": "mvit/b_16x4",
    "torchvision_mvit_v1_b": "mvit/b_16x4",
    "torchvision_swin3d_b": "video_swin/b",
    "torchvision_swin3d_t": "video_swin/t",
}
IMAGE = [
    *(("timm_swin_tiny_patch4_window7_224", name) for name in ("video_swin/t", "tps/swin_t")),
    ("timm_swin_base_patch4_window7_224", "video_swin/b"),
    ("torchvision_swin_t", "video_swin/t"),
    ("timm_deit_base_distilled_patch16_224", "timesformer/b"),
    ("timm_deit3_base_patch16_224", "timesformer/b"),
    ("timm_vit_base_patch16_384", "vivit/b"),
    ("timm_vit_base_patch16_clip_224", "timesformer/b"),
    ("torchvision_vit_b_16", "vivit/b"),
    ("transformers_vit_base", "timesformer/b"),
    ("transformers_clip_vision_base_16", "timesformer/b"),
    ("openai_clip_vit_b_16", "timesformer/b"),
    ("jax_vit_b_16", "timesformer/b"),
    ("dino_teacher_vit_b_16", "timesformer/b"),
    ("torchvision_resnet50", "tsm/r50_8f"),
    ("torchvision_mobilenet_v2", "tsm/mobilenetv2_8f"),
    ("timm_mobilenetv2_100", "tsm/mobilenetv2_8f"),
    ("timm_mobileone_s4", "tsm/mobileone_s4_16f"),
    ("timm_mobileone_s4_fused", "tsm/mobileone_s4_16f"),
]


@pytest.mark.parametrize(("file", "name"), VIDEO.items(), ids=VIDEO)
def test_every_name_of_a_video_release_is_known(file, name):
    variant, model, state = _at_full_size(file, name)
    match = _match.best(model, [Candidate("", state)], variant.namings)
    _assert_complete(model, match.state, but=variant.unused_parameters)


@pytest.mark.parametrize(("file", "name"), IMAGE, ids=lambda value: value.replace("/", "_"))
def test_every_name_of_an_image_release_is_known(file, name):
    variant, model, state = _at_full_size(file, name)
    match = _match.best(model, [Candidate("", state)], variant.image_namings, finish=partial(variant.inflate, model))
    _assert_complete(model, match.state, but=("cls_head.",))


def _at_full_size(file: str, name: str) -> tuple[models.Variant, torch.nn.Module, State]:
    with torch.device("meta"):
        state = {key: torch.empty(shape) for key, shape in NAMES[file]}
        return models.find(name), models.build(name), state


def _assert_complete(model: torch.nn.Module, state: State, but: tuple[str, ...]) -> None:
    own = {key: value.shape for key, value in model.state_dict().items() if not key.startswith(but)}
    assert {key: value.shape for key, value in state.items() if key in own} == own
    assert not state.keys() - own.keys()


OFFICIAL_NAMES = [
    (_tsm_names.mmaction, "backbone.layer1.0.conv1.conv.net.weight", "backbone.layer1.0.conv1.conv.weight"),
    (_tsm_names.mmaction, "backbone.layer2.0.block.conv1.bn.bias", "backbone.layer2.0.conv1.bn.bias"),
    (_tsm_names.mmaction, "backbone.layer2.0.non_local_block.g.0.conv.bias", "backbone.layer2.0.non_local.g.bias"),
    (_tsm_names.mit_han_lab, "base_model.layer1.0.conv1.net.weight", "backbone.layer1.0.conv1.conv.weight"),
    (_tsm_names.mit_han_lab, "base_model.bn1.running_var", "backbone.conv1.bn.running_var"),
    (_tsm_names.mit_han_lab, "base_model.layer2.0.downsample.1.bias", "backbone.layer2.0.downsample.bn.bias"),
    (_tsm_names.mit_han_lab, "new_fc.weight", "cls_head.fc_cls.weight"),
    (_tsm_names.mit_han_lab, "base_model.fc.weight", "cls_head.fc_cls.weight"),
    (_tsm_names.mit_han_lab, "features.3.conv.4.weight", "backbone.layer2.1.conv.1.bn.weight"),
    (_tsm_names.mit_han_lab, "base_model.features.3.conv.0.net.weight", "backbone.layer2.1.conv.0.conv.weight"),
    (_tsm_names.mit_han_lab, "base_model.classifier.weight", "cls_head.fc_cls.weight"),
    (_tsm_names.image, "backbone.layer1.0.bn1.weight", "backbone.layer1.0.conv1.bn.weight"),
    (_tsm_names.apple_mobileone, "stage0.rbr_scale.bn.weight", "backbone.stage0.branch_scale.norm.weight"),
    (_swin_names.mmaction, "backbone.norm3.weight", "backbone.norm.weight"),
    (_timesformer_names.mmaction, "backbone.transformer_layers.layers.0.norms.1.bias", "blocks.0.norm.bias"),
    (_timesformer_names.mmaction, "backbone.transformer_layers.layers.0.ffns.0.norm.bias", "blocks.0.norm.bias"),
    (_timesformer_names.facebook, "model.blocks.0.attn.qkv.bias", "blocks.0.attentions.0.qkv.bias"),
    (_mvit_names.pytorchvideo, "norm_embed.weight", "norm.weight"),
    (_mvit_names.slowfast, "head.projection.weight", "cls_head.weight"),
]  # fmt: skip


@pytest.mark.parametrize(("convert", "official", "ours"), OFFICIAL_NAMES)
def test_official_names(convert, official, ours):
    assert list(convert({official: torch.zeros(3)})) == [ours]


def test_time_comes_before_space_in_divided_attention():
    names = ("temporal_attn.qkv.bias", "attn.qkv.bias", "temporal_norm1.bias", "norm1.bias", "temporal_fc.bias")
    state = {f"blocks.0.{name}": torch.tensor(float(i)) for i, name in enumerate(names)}
    ours = ("0.qkv.bias", "1.qkv.bias", "0.norm.bias", "1.norm.bias", "0.temporal_fc.bias")
    converted = _timesformer_names.facebook(state)
    assert converted == {f"blocks.0.attentions.{name}": torch.tensor(float(i)) for i, name in enumerate(ours)}


def test_the_bias_before_a_batch_norm_is_folded_into_its_mean():
    names = ("W.0.bias", "W.1.running_mean")
    state = {
        f"base_model.layer2.0.nl.{name}": torch.tensor([value]) for name, value in zip(names, (3.0, 5.0), strict=True)
    }
    converted = _tsm_names.mit_han_lab(state)
    assert converted == {"backbone.layer2.0.non_local.conv_out.bn.running_mean": torch.tensor([2.0])}


def test_the_origin_sets_the_epsilon_of_every_layer_norm():
    model = models.build("timesformer/micro", num_classes=8)
    state = {key.replace("cls_head.", "cls_head.fc_cls."): value for key, value in model.state_dict().items()}
    models.load_checkpoint(model, {f"backbone.{k}" if "head" not in k else k: v for k, v in state.items()})
    assert {m.eps for m in model.modules() if isinstance(m, torch.nn.LayerNorm)} == {1e-6}


def test_a_norm_after_pooling_is_the_encoders():
    assert list(_vit_names.timm({"fc_norm.weight": torch.ones(4)})) == ["norm.weight"]


def test_a_distillation_token_is_left_out_with_its_position():
    state = {
        "cls_token": torch.zeros(1, 1, 2),
        "dist_token": torch.ones(1, 1, 2),
        "pos_embed": torch.arange(12.0).view(1, 6, 2),
    }
    positions = _vit_names.timm(state)["pos_embed"]
    assert positions[0, :, 0].tolist() == [0, 4, 6, 8, 10]


@pytest.mark.parametrize(
    "name", ["dist_token", "norm_pre.weight", "vision_model.pre_layrnorm.bias", "visual.ln_pre.bias", "ln_pre.weight"]
)
def test_what_the_network_has_no_part_for_is_said(name):
    assert any(re.search(naming.lost, name) for naming in _vit_names.IMAGE_NAMINGS.values() if naming.lost)
    image = models.build("timesformer/micro", attention="space").state_dict()
    image = {key.replace(".attentions.0.norm", ".norm1"): value for key, value in image.items()}
    image = {re.sub(r"(blocks\.\d)\.norm\.", r"\1.norm2.", key): value for key, value in image.items()}
    image = {key.replace(".attentions.0.", ".attn.").replace("cls_head", "head"): value for key, value in image.items()}
    model = models.build("timesformer/micro")
    said = str(models.load_pretrained(model, {**image, "norm_pre.weight": torch.ones(64)}))
    assert "no such part: norm_pre.weight" in said


def test_jax_kernels_are_transposed():
    kernel = torch.arange(24.0).view(4, 2, 3)  # D heads d
    state = {
        f"Transformer/encoderblock_0/MultiHeadDotProductAttention_1/{part}/kernel": kernel
        for part in ("query", "key", "value")
    }
    state["Transformer/encoderblock_0/MlpBlock_3/Dense_0/kernel"] = torch.zeros(4, 16)
    converted = _vit_names.jax(state)
    torch.testing.assert_close(converted["blocks.0.attentions.0.qkv.weight"], kernel.reshape(4, 6).t().repeat(3, 1))
    assert converted["blocks.0.mlp.fc1.weight"].shape == (16, 4)


def test_mergings_of_openmmlab_are_reordered():
    image = torch.randn(1, 3, 2, 2)  # C, then the four neighbors
    unfolded = torch.nn.functional.unfold(image, 2)[0, :, 0]
    ours = torch.cat([image[0, :, row, column] for column in (0, 1) for row in (0, 1)])
    weight = torch.randn(5, 12)
    converted = _swin_names.mmpretrain({"backbone.stages.0.downsample.reduction.weight": weight})
    torch.testing.assert_close(converted["layers.0.downsample.reduction.weight"] @ ours, weight @ unfolded)


def test_positions_of_another_size_and_length_are_resized():
    model = models.build("timesformer/micro", frames=16, num_classes=8)
    state = models.build("timesformer/micro", frames=8, size=64, num_classes=8).state_dict()
    fitted = _positions.fit(model, state)
    torch.testing.assert_close(fitted["time_embed"][:, 5], state["time_embed"][:, 2])
    assert fitted["pos_embed"].shape == (1, 17, 64)
    said = str(models.load_checkpoint(model, state))
    assert "interpolated: pos_embed from 65 to 17, time_embed from 8 to 16" in said


def test_the_first_time_step_of_a_factorized_vivit_is_the_class_tokens():
    model = models.build("vivit/micro", frames=16, num_classes=8)
    table = models.build("vivit/micro", num_classes=8).state_dict()["time_embed"]
    fitted = _positions.fit(model, {"time_embed": table})["time_embed"]
    assert torch.equal(fitted[:, :3], table[:, [0, 1, 1]])


@torch.inference_mode()
def test_a_fused_mobileone_trains_from_branches_that_compute_the_same():
    block = models.build("tsm/mobileone_s4_16f").backbone.stage0.eval()
    x = torch.randn(1, 3, 8, 8)
    weight, bias = torch.randn(64, 3, 3, 3), torch.randn(64)
    expected = torch.nn.functional.conv2d(x, weight, bias, stride=2, padding=1).relu()
    block.load_state_dict(block.split(weight, bias))
    torch.testing.assert_close(block(x), expected, rtol=1e-4, atol=1e-5)


def test_mvit_pools_by_its_strides_without_a_kernel():
    model = models.build("mvit/micro", pool_kernel=None)
    shapes = {key: tuple(value.shape[2:]) for key, value in model.state_dict().items() if "pool_" in key}
    assert shapes == {
        f"blocks.{i}.attn.pool_{part}.weight": (1, 3, 3) for i, part in ((0, "q"), (0, "k"), (0, "v"), (1, "q"))
    }
    assert model(torch.zeros(1, 3, 8, 32, 32)).shape == (1, 400)
