"""Read pickled checkpoints without running anything of theirs: what is no tensor, array or plain container is inert.

Both of torch's formats (zip since 1.6, its predecessor), TorchScript archives and plain pickles.
"""

from __future__ import annotations

import io
import pickle
import warnings
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor, _utils


class Record(dict[Any, Any]):
    """What is left of a pickled object of any other class: its items and attributes, by name, and no behavior.

    `origin` is the class that the file names, such as `argparse.Namespace`.
    """

    origin = ""

    def __new__(cls, *args: object, **kwargs: object) -> Record:
        return super().__new__(cls)

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__()
        for state in (*args, kwargs):
            self.__setstate__(state)

    def __setstate__(self, state: object) -> None:
        for part in state if isinstance(state, tuple) else (state,):  # with slots, the state is a pair
            if isinstance(part, Mapping):
                self.update(part)

    def __call__(self, *args: object, **kwargs: object) -> Record:
        return Record()

    # What pickles call to fill lists and sets; the items are not kept.
    def append(self, item: object) -> None:
        """Ignore the item."""

    extend = add = append

    def __hash__(self) -> int:  # type: ignore[override]
        return id(self)

    def __eq__(self, other: object) -> bool:
        return self is other


class _Function:
    """A function that a pickle may call, which it cannot change: attributes that it sets are ignored."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call

    def __call__(self, *args: Any) -> Any:
        return self._call(*args)

    def __setstate__(self, state: object) -> None:
        pass


class _UntypedStorage:
    """What torch's readers need of the class `UntypedStorage` that a file names."""

    __slots__ = ()
    dtype = torch.uint8

    def __setstate__(self, state: object) -> None:
        pass


def _tensor(storage: Any, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: object) -> Tensor:
    return torch.empty(0, dtype=storage.dtype).set_(storage.untyped(), offset, tuple(size), tuple(stride))


def _typed_tensor(storage: Any, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *rest: Any) -> Tensor:
    return torch.empty(0, dtype=rest[2]).set_(storage.untyped(), offset, tuple(size), tuple(stride))


def _quantized(
    storage: Any, offset: int, size: tuple[int, ...], stride: tuple[int, ...], quantizer: Any, *_: object
) -> Tensor:
    # Private: torch has no public way to put a quantizer on a storage.
    return _utils._rebuild_qtensor(storage, offset, size, stride, quantizer, False, {})


@dataclass(frozen=True)
class Sparse:
    """A sparse tensor whose indices are not read yet: torch's older format has them at the end of the file."""

    layout: torch.layout
    data: Any

    def dense(self) -> Tensor:
        """Return it as a dense tensor. Raises RuntimeError if its indices are out of range."""
        if self.layout is torch.sparse_coo:
            indices, values, size = self.data[:3]
            return torch.sparse_coo_tensor(indices, values, size, check_invariants=True).to_dense()
        rows, columns, values, size = self.data[:4]
        made = torch.sparse_compressed_tensor(rows, columns, values, size, layout=self.layout, check_invariants=True)
        return made.to_dense()


def _of_type(function: Any, kind: object, args: tuple[Any, ...], *_: object) -> Any:
    if not isinstance(function, _Function):
        raise pickle.UnpicklingError("a tensor of a type that cannot be rebuilt")
    return function(*args)


def _frombuffer(buffer: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
    return np.frombuffer(buffer, dtype=dtype).reshape(shape, order=order)


def _reconstructor(kind: Any, base: object, state: object) -> Any:
    return kind(state) if isinstance(state, (Mapping, list, set)) else kind()


def _first(value: Any, *_: object) -> Any:
    return value


LAYOUTS = {str(layout): layout for layout in vars(torch).values() if isinstance(layout, torch.layout)}
CALLED: dict[str, Callable[..., Any]] = {
    "_codecs.encode": lambda text, *_: text.encode("latin1"),  # how Python 2's byte strings are written
    "copyreg._reconstructor": _reconstructor,
    "numpy.core.multiarray._reconstruct": np.ndarray.__reduce__(np.zeros(0))[0],  # type: ignore[dict-item]
    "numpy.core.multiarray.scalar": np.float64(0).__reduce__()[0],  # type: ignore[dict-item]
    "numpy.core.numeric._frombuffer": _frombuffer,
    "torch.Size": tuple,
    "torch._tensor._rebuild_from_type": _of_type,
    "torch._tensor._rebuild_from_type_v2": _of_type,
    "torch._utils._rebuild_device_tensor_from_cpu_tensor": _first,
    "torch._utils._rebuild_device_tensor_from_numpy": lambda array, *_: torch.from_numpy(array),
    "torch._utils._rebuild_parameter": _first,
    "torch._utils._rebuild_parameter_with_state": _first,
    "torch._utils._rebuild_qtensor": _quantized,
    "torch._utils._rebuild_sparse_tensor": Sparse,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _typed_tensor,
    "torch.serialization._get_layout": lambda name: LAYOUTS[name],
    "torch.storage._load_from_bytes": lambda data: _load(io.BytesIO(data), "utf-8"),
}
# Classes written in C: a pickle can call them, but not change them.
CLASSES: dict[str, Any] = {
    **{f"builtins.{kind.__name__}": kind for kind in (bool, bytearray, bytes, complex, dict, float, frozenset, int)},
    **{f"builtins.{kind.__name__}": kind for kind in (list, object, set, str, tuple)},
    "collections.OrderedDict": OrderedDict,
    "collections.defaultdict": defaultdict,
    "numpy.dtype": np.dtype,
    "numpy.ndarray": np.ndarray,
}
REAL: dict[str, Any] = {
    **CLASSES,
    **{name: _Function(call) for name, call in CALLED.items()},
    **{str(value): value for value in vars(torch).values() if isinstance(value, (torch.dtype, torch.qscheme))},
    "torch.storage.UntypedStorage": _UntypedStorage(),
}
RENAMED = (("__builtin__", "builtins"), ("copy_reg", "copyreg"), ("numpy._core.", "numpy.core."))


class Unpickler(pickle.Unpickler):
    """An unpickler for which only `REAL` exists; every other global is a kind of `Record`."""

    def find_class(self, module: str, name: str) -> Any:
        """Return what stands for a global, without importing anything."""
        for old, new in RENAMED:
            module = module.replace(old, new, 1) if module.startswith(old) else module
        full = f"{module}.{name}"
        return REAL[full] if full in REAL else type("Record", (Record,), {"origin": full})


class _File(io.BufferedReader):
    """A file without descriptor: torch tries to read one that has it as a tar archive, and would unpack that."""

    def fileno(self) -> int:
        raise io.UnsupportedOperation


def _load_one(file: BinaryIO, **options: Any) -> Any:
    return Unpickler(file, **options).load()


# What torch's readers use of a pickle module.
MODULE = SimpleNamespace(__name__=__name__, Unpickler=Unpickler, load=_load_one)


def read(path: Path) -> Any:
    """Return the content of a pickled file, tensors on the CPU, with `Record`s for what is not `REAL`.

    Runs nothing that is in the file. Raises what unpickling raises, which can be anything, if the file is damaged.
    """
    with _File(io.FileIO(path)) as file:
        try:
            return _load(file, "utf-8")
        except UnicodeDecodeError:
            file.seek(0)
            return _load(file, "latin1")  # written by Python 2


def _load(file: BinaryIO, encoding: str) -> Any:
    # Private functions: `torch.load` would hand a TorchScript archive to torch.jit, which is more than reading, and
    # refuse any pickle module where TORCH_FORCE_WEIGHTS_ONLY_LOAD is set.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about typed storages, or that a class's source cannot be compared
        if file.read(4) == b"PK\x03\x04":
            file.seek(0)
            with torch.serialization._open_zipfile_reader(file) as archive:
                return torch.serialization._load(archive, "cpu", MODULE, encoding=encoding)
        file.seek(0)
        content = _load_one(file, encoding=encoding)
        if not (isinstance(content, int) and content == torch.serialization.MAGIC_NUMBER):
            return content
        file.seek(0)
        return torch.serialization._legacy_load(file, "cpu", MODULE, encoding=encoding)
