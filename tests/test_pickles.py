"""Checkpoints that trainers pickled open without running anything that is in them."""

from __future__ import annotations

import argparse
import builtins
import collections
import contextlib
import datetime
import functools
import io
import os
import pickle
import zipfile
from collections import OrderedDict, defaultdict

import numpy as np
import pytest
import torch
from reelbench.errors import UserError
from reelbench.models import _pickles, _state_dict


class Calls:
    """An object that calls a function when it is unpickled."""

    def __init__(self, function, *arguments):
        self.made = function, arguments

    def __reduce__(self):
        return self.made


class Configuration(dict):
    """A dictionary of another library, with attributes, as yacs and Lightning have them."""

    __getattr__ = dict.__getitem__


class History:
    """MMEngine's HistoryBuffer: pickles bound functions through builtins.getattr."""

    def __init__(self):
        self.values, self.methods = np.arange(3), {"mean": Calls(getattr, self.__class__, "__init__")}

    def __getstate__(self):
        return {"_log_history": self.values, "methods": self.methods}


ATTACKS = {
    "os.system": lambda run: Calls(os.system, run),
    "eval": lambda run: Calls(builtins.eval, f"__import__('os').system({run!r})"),
    "exec": lambda run: Calls(builtins.exec, f"__import__('os').system({run!r})"),
    "partial": lambda run: Calls(functools.partial(os.system, run)),
    "partial, called by a defaultdict": lambda run: defaultdict(functools.partial(os.system, run)),
    "getattr": lambda run: Calls(getattr, Calls(__import__, "os"), "system"),
    "torch.hub": lambda run: Calls(torch.hub.load, "owner/name", "model"),
    "torch.load": lambda run: Calls(torch.load, run),
    "a nested pickle": lambda run: Calls(torch.storage._load_from_bytes, pickle.dumps(Calls(os.system, run))),
    "tensor of a type": lambda run: Calls(torch._tensor._rebuild_from_type_v2, os.system, torch.Tensor, (run,), None),
    "numpy objects": lambda run: np.array([Calls(os.system, run)], dtype=object),
    "state of a function": lambda run: Calls(collections.namedtuple, "x", run),
}


def _bytes(content: object, form: str) -> bytes:
    file = io.BytesIO()
    if form == "plain":
        pickle.dump(content, file)
    else:
        torch.save(content, file, _use_new_zipfile_serialization=form == "zip")
    return file.getvalue()


@pytest.mark.parametrize("form", ["zip", "legacy", "plain"])
@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_nothing_in_a_file_runs(attack, form, tmp_path):
    mark, path = tmp_path / "ran", tmp_path / "file.pth"
    path.write_bytes(_bytes({"state_dict": {"w": torch.ones(3)}, "hook": attack(f"touch {mark}")}, form))
    try:  # noqa: SIM105
        [found] = [one for one in _state_dict.read(path).candidates if one.container == "state_dict"]
        assert torch.equal(found.state["w"], torch.ones(3))
    except UserError:
        pass  # refused is as good
    assert not mark.exists()


def test_a_pickle_cannot_change_what_stands_for_torchs_functions():
    """BUILD sets attributes on whatever object is on the stack, functions and classes too."""
    for name in _pickles.REAL:
        module, _, attribute = name.rpartition(".")
        for state in (b"}X\x01\x00\x00\x00zX\x01\x00\x00\x00ys", b"N}X\x05\x00\x00\x00_callK\x05s\x86"):
            code = b"\x80\x02c" + f"{module}\n{attribute}\n".encode() + state + b"b."
            before = {key: getattr(value, "_call", None) for key, value in _pickles.REAL.items()}
            with contextlib.suppress(Exception):
                _pickles.Unpickler(io.BytesIO(code)).load()
            assert before == {key: getattr(value, "_call", None) for key, value in _pickles.REAL.items()}
            assert not hasattr(_pickles.REAL[name], "z")


@pytest.mark.parametrize("form", ["zip", "legacy", "plain"])
def test_objects_of_trainers_open_as_records(form, tmp_path):
    path = tmp_path / "file.pth"
    own = Configuration(lr=1.0, nested=Configuration(x=2))
    own.__dict__["frozen"] = True
    content = {
        "state_dict": OrderedDict(w=torch.ones(3)), "args": argparse.Namespace(shift_place="block"),
        "when": datetime.date.min,
        "cfg": own, "message_hub": {"log": History()}, "counts": defaultdict(list, a=[1]), "set": {1, 2},
        "scores": np.float64(3), "array": np.arange(4, dtype=">f4"), "size": torch.Size([1]), "type": torch.bfloat16,
        "counter": collections.Counter("aab"), "queue": collections.deque([1, 2]), "path": tmp_path,
    }  # fmt: skip
    path.write_bytes(_bytes(content, form))
    read = _pickles.read(path)
    assert torch.equal(read["state_dict"]["w"], torch.ones(3))
    assert read["args"]["shift_place"] == "block"
    assert read["args"].origin == "argparse.Namespace"
    assert read["cfg"]["nested"]["x"] == 2
    assert read["cfg"]["frozen"] is True
    assert read["message_hub"]["log"]["_log_history"].tolist() == [0, 1, 2]
    assert read["counts"]["a"] == [1]
    assert read["set"] == {1, 2}
    assert read["scores"] == 3
    assert read["array"].tolist() == [0, 1, 2, 3]
    assert read["type"] is torch.bfloat16


TENSORS = {
    "bf16": torch.arange(4.0).bfloat16(),
    "a view": torch.arange(12.0).view(3, 4)[:, 1:3].t(),
    "a parameter": torch.nn.Parameter(torch.arange(3.0)),
    "a scalar": torch.tensor(3),
    "empty": torch.empty(0, 4),
    "uint16": torch.arange(3).to(torch.uint16),
    "float8": torch.arange(3.0).to(torch.float8_e4m3fn),
    "sparse": torch.eye(3).to_sparse(),
    "sparse rows": torch.eye(3).to_sparse_csr(),
    "quantized": torch.quantize_per_tensor(torch.arange(4.0), 0.5, 0, torch.qint8),
    "complex": torch.arange(3) * 1j,
}


@pytest.mark.filterwarnings("ignore:Sparse")
@pytest.mark.parametrize("form", ["zip", "legacy", "plain"])
@pytest.mark.parametrize("tensor", TENSORS.values(), ids=TENSORS)
def test_every_kind_of_tensor_opens_as_a_plain_one(tensor, form, tmp_path):
    if form == "plain" and (tensor.is_quantized or tensor.dtype in (torch.uint16, torch.float8_e4m3fn)):
        pytest.skip("torch itself cannot pickle its storage")
    (tmp_path / "f").write_bytes(_bytes({"a": tensor}, form))
    [found] = _state_dict.read(tmp_path / "f").candidates
    read = found.state["a"]
    expected = tensor.dequantize() if tensor.is_quantized else tensor.detach()
    expected = expected.to_dense() if expected.layout != torch.strided else expected
    assert type(read) is torch.Tensor
    assert read.dtype == expected.dtype
    assert read.tolist() == expected.tolist()


def test_storages_stay_shared(tmp_path):
    for form in ("zip", "legacy"):
        whole = torch.arange(4.0)
        (tmp_path / "f").write_bytes(_bytes({"a": whole, "b": whole[1:]}, form))
        read = _pickles.read(tmp_path / "f")
        assert read["a"].data_ptr() + 4 == read["b"].data_ptr()


def test_a_whole_module_is_a_state_dict_too(tmp_path):
    module = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))
    module.register_buffer("scratch", torch.zeros(1), persistent=False)
    torch.save({"model": module, "epoch": 1}, tmp_path / "f")
    [found] = _state_dict.read(tmp_path / "f").candidates
    assert found.state.keys() == module.state_dict().keys()
    assert all(torch.equal(found.state[key], value) for key, value in module.state_dict().items())


def test_a_torchscript_archive_is_read_without_torch_jit(tmp_path, monkeypatch):
    module = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Sequential(torch.nn.BatchNorm1d(3)))
    torch.jit.save(torch.jit.script(module), tmp_path / "f")
    monkeypatch.setattr(torch.jit, "load", None)
    [found] = _state_dict.read(tmp_path / "f").candidates
    assert found.state.keys() == module.state_dict().keys()


def test_files_of_python_2_open(tmp_path):
    code = b"\x80\x02}q\x00U\x01wcnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    code += (
        b"(K\x01K\x01\x85cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    )
    code += b"\x89U\x04\x00\x00\x80\xbftbs."
    (tmp_path / "f.pkl").write_bytes(code)
    [found] = _state_dict.read(tmp_path / "f.pkl").candidates
    assert found.state["w"].tolist() == [-1.0]


def test_damaged_files_are_refused_in_one_line(tmp_path):
    whole = {form: _bytes({"state_dict": {"w": torch.ones(300)}}, form) for form in ("zip", "legacy", "plain")}
    for form, content in whole.items():
        for end in (1, 3, 20, 100, len(content) // 2, len(content) - 1):
            (tmp_path / "f.pth").write_bytes(content[:end])
            with pytest.raises(UserError) as caught:
                _state_dict.read(tmp_path / "f.pth")
            assert "\n" not in str(caught.value), (form, end)
    with zipfile.ZipFile(tmp_path / "f.pth", "w") as file:
        file.writestr("notes.txt", "hello")
    with pytest.raises(UserError, match=r"zip archive of notes\.txt"):
        _state_dict.read(tmp_path / "f.pth")
