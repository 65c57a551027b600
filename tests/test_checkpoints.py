"""Checkpoints are read strictly, from every container; what does not fit is named, what would run code is refused."""

import argparse
from pathlib import Path

import pytest
import torch
from reelbench import models
from reelbench.errors import UserError
from reelbench.models import _checkpoints
from reelbench.tests import golden_models as goldens
from safetensors.torch import save_file

NAME = "video_swin/micro"

CONTAINERS = {
    "flat": lambda s: s,
    "state_dict": lambda s: {"state_dict": s, "epoch": 3},
    "model": lambda s: {"model": s, "optimizer": {"state": {}}},
    "nested": lambda s: {"module": {"state_dict": s}},
    "data parallel": lambda s: {"state_dict": {f"module.{k}": v for k, v in s.items()}},
    "with its trainer": lambda s: {"state_dict": s, "args": argparse.Namespace(lr=1.0), "path": Path("x")},
}


@pytest.mark.parametrize("wrap", CONTAINERS.values(), ids=CONTAINERS)
def test_reads_every_container(wrap, model, state, tmp_path):
    torch.save(wrap(state), tmp_path / "file.pth")
    models.load_checkpoint(model, tmp_path / "file.pth")
    assert goldens.same(model, state)


def test_reads_safetensors_and_mappings(model, state, tmp_path):
    save_file(state, tmp_path / "file.safetensors")
    models.load_checkpoint(model, tmp_path / "file.safetensors")
    assert goldens.same(model, state)
    zeros = {key: torch.zeros_like(value) for key, value in state.items()}
    models.load_checkpoint(model, {"state_dict": zeros})
    assert goldens.same(model, zeros)


def test_reads_a_deepspeed_folder_through_latest(model, state, tmp_path):
    for tag, weights in (("step1", {}), ("step2", state)):
        (tmp_path / tag).mkdir()
        torch.save({"module": weights, "ds_version": "0"}, tmp_path / tag / "mp_rank_00_model_states.pt")
    (tmp_path / "latest").write_text("step2\n")
    models.load_checkpoint(model, tmp_path)
    assert goldens.same(model, state)


def test_a_folder_in_pieces_says_how_to_join_it(model, tmp_path):
    (tmp_path / "latest").write_text("step1")
    (tmp_path / "step1" / "empty").mkdir(parents=True)
    (tmp_path / "step1" / "zero_pp_rank_0_mp_rank_00_model_states.pt").touch()
    with pytest.raises(UserError, match="reelbench export"):
        models.load_checkpoint(model, tmp_path)
    with pytest.raises(UserError, match="no checkpoint folder"):
        models.load_checkpoint(model, tmp_path / "step1" / "empty")


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("content", [b"", b"no weights at all" * 50, b"PK\x03\x04 half a zip file"])
def test_a_broken_file_is_named_in_one_line(suffix, content, model, tmp_path):
    path = tmp_path / f"broken{suffix}"
    path.write_bytes(content)
    with pytest.raises(UserError, match="broken") as caught:
        models.load_checkpoint(model, path)
    assert "\n" not in str(caught.value)


def test_what_does_not_fit_is_named(model, state):
    del state["backbone.norm.weight"]
    state["backbone.stray"] = torch.zeros(2)
    state["cls_head.fc_cls.weight"] = torch.zeros(400, 96)
    with pytest.raises(UserError) as caught:
        models.load_checkpoint(model, state)
    message = str(caught.value)
    assert NAME in message
    assert "1 missing (backbone.norm.weight)" in message
    assert "1 unexpected (backbone.stray)" in message
    assert "cls_head.fc_cls.weight is 400×96 in the file and 5×96 in the model" in message


def test_a_long_list_is_cut_short(model):
    with pytest.raises(UserError, match=r"missing \(.* and \d+ more\)") as caught:
        models.load_checkpoint(model, {"nothing": torch.zeros(1)})
    assert len(str(caught.value)) < 500


def test_files_that_hold_nothing(model, tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        models.load_checkpoint(model, tmp_path / "none.pth")
    with pytest.raises(UserError, match="no tensors"):
        models.load_checkpoint(model, {"epoch": 3})


def test_the_same_parameter_twice_is_refused():
    model = models.build("tsm/micro")
    state = model.state_dict()
    twice = {**state, "backbone.layer1.0.conv1.conv.net.weight": state["backbone.layer1.0.conv1.conv.weight"]}
    with pytest.raises(UserError, match="1 unexpected"):
        models.load_checkpoint(model, twice)


def test_initialising_from_other_classes_replaces_the_head(model, state, tmp_path):
    state["cls_head.fc_cls.weight"], state["cls_head.fc_cls.bias"] = torch.zeros(400, 128), torch.zeros(400)
    head = model.cls_head.fc_cls.weight.clone()
    assert models.init_from(model, state).left == ("cls_head.fc_cls.bias", "cls_head.fc_cls.weight")
    assert torch.equal(model.cls_head.fc_cls.weight, head)
    assert torch.equal(model.backbone.norm.weight, state["backbone.norm.weight"])


def test_initialising_lists_what_was_left_out(model, state):
    state["backbone.patch_embed.proj.weight"] = torch.zeros(1)
    del state["backbone.norm.bias"]
    loaded = models.init_from(model, state)
    assert loaded.left == ("backbone.norm.bias", "backbone.patch_embed.proj.weight")
    assert str(loaded).startswith(f"the given state dict: {loaded.total - 2} of {loaded.total} tensors of {NAME}")
    assert torch.equal(model.cls_head.fc_cls.weight, state["cls_head.fc_cls.weight"])


def test_initialising_from_a_part_must_be_meant(model, state):
    before = model.backbone.layers[1].blocks[0].mlp.fc1.weight.clone()
    part = {key: value for key, value in state.items() if not key.startswith("backbone.layers.1.")}
    with pytest.raises(UserError, match=r"holds \d+% of the parameters of .*backbone.*--init-from-partial"):
        models.init_from(model, part)
    assert not goldens.same(model, {**state, **part})
    loaded = models.init_from(model, part, partial=True)
    assert set(loaded.left) == state.keys() - part.keys()
    assert torch.equal(model.backbone.layers[1].blocks[0].mlp.fc1.weight, before)
    with pytest.raises(UserError, match="holds 0%"):
        models.init_from(model, {"strange": torch.zeros(1)}, partial=True)


@pytest.mark.parametrize(
    ("key", "network"),
    [
        ("blocks.0.attn.rel_pos_h", "MViTv2"), ("s1.pathway1_stem.conv.weight", "SlowFast"),
        ("s1.pathway0_stem.conv_xy.weight", "X3D"), ("Mixed_3b.b0.conv3d.weight", "Inception-I3D"),
    ],
)  # fmt: skip
def test_another_network_is_named(key, network, model, state):
    for load in (models.load_checkpoint, models.init_from):
        with pytest.raises(UserError, match=f"its names are those of {network}"):
            load(model, {"state_dict": {key: torch.zeros(2)}})


def test_metadata_and_depths_tell_what_a_file_is(model, state):
    deeper = {**state, "backbone.layers.1.blocks.9.norm1.weight": torch.zeros(96)}
    with pytest.raises(UserError) as caught:
        models.load_checkpoint(model, {"state_dict": deeper, "args": argparse.Namespace(), "arch": "swin_huge"})
    assert "its metadata says arch=swin_huge" in str(caught.value)
    assert f"10 backbone.layers.1.blocks in the file, {len(model.backbone.layers[1].blocks)} in the model" in str(
        caught.value
    )


def test_a_window_of_another_size_is_interpolated_when_inflating():
    model = models.build("video_swin/micro")
    table = model.get_parameter("backbone.layers.0.blocks.0.attn.relative_position_bias_table")
    image = {key: value for key, value in model.state_dict().items() if not key.startswith("cls_head.")}
    image["backbone.patch_embed.proj.weight"] = torch.ones(48, 3, 4, 4)
    image |= {key: torch.full((169, v.shape[1]), 0.5) for key, v in image.items() if key.endswith("bias_table")}
    image["layers.0.blocks.0.attn.relative_position_index"] = torch.zeros(49, 49)
    image["head.weight"] = torch.zeros(1000, 96)
    _checkpoints.load_pretrained(model, models.find(NAME), {"model": image})
    torch.testing.assert_close(table.data, torch.full_like(table, 0.5))
    torch.testing.assert_close(model.backbone.patch_embed.proj.weight.data, torch.full((48, 3, 2, 4, 4), 0.5))


def test_image_checkpoints_of_the_convolutional_networks_load_under_their_own_names():
    donor = models.build("tsm/r50_8f")
    torchvision = {}
    for key, value in donor.backbone.state_dict().items():
        key = key.replace("downsample.conv", "downsample.0").replace("downsample.bn", "downsample.1")
        for n in "123":
            key = key.replace(f"conv{n}.conv", f"conv{n}").replace(f"conv{n}.bn", f"bn{n}")
        torchvision[key] = value
    torchvision |= {"fc.weight": torch.zeros(1000, 2048), "fc.bias": torch.zeros(1000)}
    model = models.build("tsm/r50_8f", pretrained=torchvision)
    for key, value in model.backbone.state_dict().items():
        assert torch.equal(value, donor.backbone.state_dict()[key]), key


@pytest.mark.slow  # a clip through models of full size
@pytest.mark.parametrize("name", ["inflate_video_swin_t.json", "inflate_tps_swin_t_k400.json"])
def test_inflation_gives_the_official_logits(name):
    golden = goldens.read(name)
    image = goldens.filled(golden, "state_dict_2d", "kept_buffers_2d")
    model = models.build(golden["model"], num_classes=golden["num_classes"], pretrained={"model": image}).eval()
    head = model.cls_head.fc_cls
    for part in ("weight", "bias"):
        parameter = head.get_parameter(part)
        parameter.data.copy_(goldens.fill(f"cls_head.fc_cls.{part}", tuple(parameter.shape)))
    with torch.inference_mode():
        assert goldens.difference(model(goldens.clip(golden)), golden["logits"]) < golden["tolerance"]
