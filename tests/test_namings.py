"""The naming that covers a model best is found, under any wrappers; files of another network are refused."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
import torch
from reelbench import models
from reelbench.errors import UserError
from reelbench.models import _checkpoints
from reelbench.models._naming import Naming, by_key
from reelbench.tests import golden_models as goldens

NAME = "video_swin/micro"

WRAPPED = {
    "compiled": lambda key: f"_orig_mod.{key}",
    "data parallel, compiled": lambda key: f"module._orig_mod.{key}",
    "FSDP": lambda key: "_fsdp_wrapped_module." + key.replace("blocks.0.", "blocks.0._fsdp_wrapped_module."),
    "activations checkpointed": lambda key: key.replace(".mlp.", ".mlp._checkpoint_wrapped_module."),
    "Lightning": lambda key: f"model.{key}",
    "twice": lambda key: f"module.net.model.{key}",
    "the backbone taken out": lambda key: key.removeprefix("backbone."),
}


@pytest.mark.parametrize("wrap", WRAPPED.values(), ids=WRAPPED)
def test_wrappers_are_removed(wrap, model, state):
    wrapped = {wrap(key): value for key, value in state.items()}
    models.load_checkpoint(model, wrapped)
    assert goldens.same(model, state)


def test_modules_beside_the_wrapped_one_are_reported_and_no_mistake(model, state):
    beside = {"val_acc.confusion": torch.zeros(5, 5), "criterion.weight": torch.zeros(5)}
    loaded = models.load_checkpoint(model, {**{f"model.{key}": value for key, value in state.items()}, **beside})
    assert loaded.left == ("criterion.weight", "val_acc.confusion")
    assert "not loaded: criterion.weight, val_acc.confusion" in str(loaded)
    assert goldens.same(model, state)
    with pytest.raises(UserError, match=r"1 unexpected \(neck.weight\)"):  # part of the network itself
        models.load_checkpoint(model, {**state, "neck.weight": torch.zeros(1)})


def test_a_naming_may_join_tensors_and_is_named(model, state):
    def convert(state):
        converted = dict(state)
        for key in [key for key in state if key.endswith(".q.weight")]:
            parts = [converted.pop(key.replace(".q.", f".{part}.")) for part in "qkv"]
            converted[key.replace(".q.", ".qkv.")] = torch.cat(parts)
        return converted

    def failing(state):
        return {"x": state["absent"]}

    split = {}
    for key, value in state.items():
        if key.endswith(".qkv.weight"):
            split |= {
                key.replace(".qkv.", f".{part}."): third for part, third in zip("qkv", value.chunk(3), strict=True)
            }
        else:
            split[key] = value
    namings = {"failing": Naming(convert=failing), "in three": Naming(convert=convert, layer_norm_eps=1e-6)}
    variant = replace(models.find(NAME), namings=namings)
    assert "in three's naming" in str(_checkpoints.load(model, variant, split))
    assert goldens.same(model, state)
    assert {m.eps for m in model.modules() if isinstance(m, torch.nn.LayerNorm)} == {1e-6}


def test_the_epsilon_of_an_origin_survives_conversion(model, state, tmp_path):
    variant = replace(
        models.find(NAME),
        namings={"other": Naming(convert=by_key(lambda key: key.removeprefix("x.")), layer_norm_eps=1e-6)},
    )
    _checkpoints.load(model, variant, {f"x.{key}": value for key, value in state.items()})
    models.save(model, tmp_path / "ours.safetensors")
    again = models.build(NAME, num_classes=5, checkpoint=tmp_path / "ours.safetensors")
    assert {m.eps for m in again.modules() if isinstance(m, torch.nn.LayerNorm)} == {1e-6}
    models.save(models.build(NAME), tmp_path / "plain.safetensors")
    plain = models.build(NAME, checkpoint=tmp_path / "plain.safetensors")
    assert {m.eps for m in plain.modules() if isinstance(m, torch.nn.LayerNorm)} == {1e-5}


def test_image_checkpoints_have_namings_too(model):
    donor = models.build(NAME)
    image = {f"odd.{key}": value for key, value in donor.backbone.state_dict().items()}
    image |= {key: torch.zeros(49, value.shape[1]) for key, value in image.items() if key.endswith("bias_table")}
    variant = models.find(NAME)
    with pytest.raises(UserError, match="cannot be inflated"):
        _checkpoints.load_pretrained(model, variant, image)
    odd = Naming(convert=by_key(lambda key: key.removeprefix("odd.")))
    _checkpoints.load_pretrained(model, replace(variant, image_namings={"odd": odd}), image)
    assert torch.equal(model.backbone.norm.weight, donor.backbone.norm.weight)


SHIFTED = {"conv1": r"^(layer\d\.\d+\.conv1)\.", "block": r"^(layer\d\.\d+)\.", "half": r"^(layer[13]\.\d+\.conv1)\."}


def _mit(key: str, *, place: str = "conv1", head: str = "new_fc") -> str:
    """A name of mit-han-lab's TSM on ResNet."""
    if key.startswith("cls_head."):
        return "module." + key.replace("cls_head.fc_cls.", f"{head}.")
    key = key.removeprefix("backbone.").replace("downsample.conv.", "downsample.0.")
    key = re.sub(r"conv(\d)\.conv\.", r"conv\1.", key.replace("downsample.bn.", "downsample.1."))
    key = re.sub(r"conv(\d)\.bn\.", r"bn\1.", key)
    return "module.base_model." + (re.sub(SHIFTED[place], r"\1.net.", key) if place in SHIFTED else key)


@pytest.mark.parametrize("head", ["new_fc", "base_model.fc"])
def test_the_original_tsm_loads_with_and_without_dropout(head):
    donor, model = models.build("tsm/micro"), models.build("tsm/micro")
    models.load_checkpoint(model, {_mit(key, head=head): value for key, value in donor.state_dict().items()})
    assert goldens.same(model, donor.state_dict())


@pytest.mark.parametrize(
    ("place", "what"),
    [("block", "shift_place=block"), ("none", "a TSN without shift"), ("half", "shifts in 2 of 4 blocks only")],
)
def test_the_original_with_another_shift_is_refused(place, what):
    model = models.build("tsm/micro")
    file = {"state_dict": {_mit(key, place=place): value for key, value in model.state_dict().items()}}
    with pytest.raises(UserError, match=what):
        models.load_checkpoint(model, file)
    models.init_from(model, file)  # as a start it is as good as an image network


def test_mmactions_tsn_is_told_by_its_metadata():
    model = models.build("tsm/micro")
    models.load_checkpoint(model, {"state_dict": model.state_dict()})
    with pytest.raises(UserError, match="a TSN without shift"):
        models.load_checkpoint(model, {"state_dict": model.state_dict(), "meta": {"epoch": 3}})


def test_classes_are_counted_after_renaming():
    file = {_mit(key): value for key, value in models.build("tsm/micro", num_classes=174).state_dict().items()}
    assert models.count_classes("tsm/micro", file) == 174
    backbone = {key: value for key, value in file.items() if "new_fc" not in key}
    assert models.count_classes("tsm/micro", backbone) is None
