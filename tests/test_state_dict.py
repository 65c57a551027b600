"""State dicts are found wherever they lie; what is no checkpoint is named for what it is."""

from __future__ import annotations

import gzip
import json
import tarfile

import numpy as np
import pytest
import torch
from reelbench import models
from reelbench.errors import UserError
from reelbench.harness.training import engine, weights
from reelbench.models import _state_dict
from safetensors.torch import save_file

NAME = "tsm/micro"


@pytest.fixture(scope="module")
def state():
    return {key: value + 1 for key, value in models.build(NAME).state_dict().items()}


def _loads(source: object, state: dict) -> str:
    model = models.build(NAME)
    loaded = models.load_checkpoint(model, source)
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    return str(loaded)


def _averaged(state: dict) -> dict:
    return {key: value + 7 for key, value in state.items()}


CONTAINERS = {
    "state_dict": lambda s: {"state_dict": s, "best_acc": torch.tensor(0.5), "epoch": 3},
    "model/model_state": lambda s: {"model": {"model_state": s}},
    "net": lambda s: {"net": s, "optimizer": {"state": {0: {"exp_avg": torch.zeros(3)}}}},
    "teacher": lambda s: {"student": {"x": torch.zeros(1)}, "teacher": s},
    "odd_name": lambda s: {"odd_name": s, "optimizer_state": _averaged(s)},
    "ema_state_dict": lambda s: {"ema_state_dict": s},
}


@pytest.mark.parametrize(("container", "wrap"), CONTAINERS.items())
def test_the_container_is_found_and_said(container, wrap, state):
    assert f"container `{container}`" in _loads(wrap(state), state)


def test_the_raw_weights_are_taken_unless_the_averaged_are_asked_for(state, tmp_path):
    torch.save({"state_dict_ema": _averaged(state), "state_dict": state, "epoch": 30}, tmp_path / "f.pth")
    said = _loads(tmp_path / "f.pth", state)
    assert "container `state_dict`, epoch 30; also in the file: `state_dict_ema`" in said
    assert "container `state_dict_ema`" in _loads(f"{tmp_path}/f.pth#state_dict_ema", _averaged(state))
    with pytest.raises(UserError, match="no container 'ema' among state_dict, state_dict_ema"):
        models.load_checkpoint(models.build(NAME), f"{tmp_path}/f.pth#ema")


def test_modules_saved_apart_are_joined(state):
    parts = {"backbone": {}, "cls_head": {}, 3: torch.zeros(1)}
    for key, value in state.items():
        part, _, name = key.partition(".")
        parts[part][name] = value
    _loads(parts, state)


def test_a_container_that_holds_itself_ends(state):
    inside: dict = {"state_dict": state}
    inside["model"] = inside
    _loads(inside, state)


@pytest.mark.parametrize("sharded", [False, True])
def test_transformers_folders_are_checkpoints(sharded, state, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "odd"}))
    if sharded:
        places = {key: f"model-{i % 2}.safetensors" for i, key in enumerate(state)}
        for name in set(places.values()):
            save_file({key: state[key] for key in state if places[key] == name}, tmp_path / name)
        (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    else:
        torch.save(state, tmp_path / "pytorch_model.bin")
    _loads(tmp_path, state)
    if sharded:
        (tmp_path / "model-1.safetensors").unlink()
        with pytest.raises(UserError, match=r"lacks 'model-1.safetensors'"):
            _state_dict.read(tmp_path)


def test_arrays_are_weights(state, tmp_path):
    arrays = {key: value.numpy() for key, value in state.items()}
    np.savez(tmp_path / "f.npz", **arrays)
    _loads(tmp_path / "f.npz", state)
    np.savez(tmp_path / "g.npz", bf16=np.frombuffer(b"\x80\x3f", dtype="V2"), names=np.array(["a"]))
    [found] = _state_dict.read(tmp_path / "g.npz").candidates
    assert {key: value.tolist() for key, value in found.state.items()} == {"bf16": [1.0]}


def test_the_first_bytes_decide_not_the_suffix(state, tmp_path):
    save_file(state, tmp_path / "f.pth")
    _loads(tmp_path / "f.pth", state)
    torch.save(state, tmp_path / "f.safetensors")
    _loads(tmp_path / "f.safetensors", state)


OTHERS = {
    "an HTML page": b"\n<!DOCTYPE html><html><title>Google Drive - Virus scan warning</title>",
    "a git-lfs pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
    "empty": b"",
    "a gzip archive": gzip.compress(b"weights", mtime=0),
    "an HDF5 file": b"\x89HDF\r\n\x1a\n" + bytes(100),
    "begins with zeros": bytes(1000),
    "a JSON file": b'{"model_type": "timesformer"}',
    "a text file": b"Access denied, see the terms of use",
    "part of a TensorFlow checkpoint": b"\x00\x12" * 50 + bytes.fromhex("57fb808b247547db"),
    "a video": b"\x00\x00\x00\x20ftypisom" + bytes(50),
    "cut short": b"PK\x03\x04" + bytes(50),
}


@pytest.mark.parametrize(("what", "content"), OTHERS.items())
def test_what_is_no_checkpoint_is_named(what, content, tmp_path):
    (tmp_path / "weights.pth").write_bytes(content)
    with pytest.raises(UserError, match=what) as caught:
        _state_dict.read(tmp_path / "weights.pth")
    assert str(tmp_path / "weights.pth") in str(caught.value)
    assert "execute" not in str(caught.value)


def test_a_tar_archive_is_not_unpacked(tmp_path):
    (tmp_path / "storages").write_bytes(b"x")
    with tarfile.open(tmp_path / "weights.pth", "w") as file:
        file.add(tmp_path / "storages")
    with pytest.raises(UserError, match="a tar archive: unpack it"):
        _state_dict.read(tmp_path / "weights.pth")


def test_shards_of_zero_3_are_joined_wherever_weights_are_restored(state, tmp_path, monkeypatch, capsys):
    wrapped = {f"network.{key}": value for key, value in state.items()}
    monkeypatch.setattr(engine, "joined_weights", lambda folder: wrapped if folder == tmp_path else None)
    network = weights.restore(NAME, tmp_path)
    assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())
    assert f"{tmp_path}: {len(state)} of {len(state)} tensors of {NAME}" in capsys.readouterr().err
    monkeypatch.setenv("RANK", "1")
    weights.restore(NAME, tmp_path)
    assert not capsys.readouterr().err
