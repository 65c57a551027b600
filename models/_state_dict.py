"""Find the state dicts in a checkpoint, wherever they lie: in files, in folders, in nested containers.

A container can be chosen by its name after a `#`: `weights.pth#state_dict_ema`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import UserError
from . import _file_kinds, _pickles
from ._naming import State

# By preference, where several fit a model as well; those that `AVERAGED` matches come after all others.
CONTAINERS = (
    "state_dict", "model", "model_state", "model_state_dict", "module", "net", "network", "teacher", "student",
    "params", "weights", "blobs",
)  # fmt: skip
AVERAGED = re.compile(r"(^|_)(ema|avg|averaged?|swa|shadow)(_|$)", re.IGNORECASE)
# Not searched: the state of trainers, which holds tensors of the parameters' shapes, or none at all.
SKIPPED = re.compile(
    r"optim|sched|scaler|^amp$|rng|callbacks|loops|hyper_?param|^args$|^opts?$|^cfg|^config|^meta|message_hub"
    r"|param_groups|exp_avg|momentum",
    re.IGNORECASE,
)
DEEPEST = 6
HUGGING_FACE = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
CUT_SHORT = re.compile(r"truncated|unexpected EOF|ran out of input|unexpected pos", re.IGNORECASE)


@dataclass(frozen=True)
class Candidate:
    """A state dict and the `container` that it lies in: `model/state_dict`, empty for none."""

    container: str
    state: State

    @property
    def averaged(self) -> bool:
        """Whether the name says that these are averaged weights (EMA, SWA)."""
        return any(AVERAGED.search(part) for part in self.container.split("/"))


@dataclass(frozen=True)
class Contents:
    """The state dicts of a checkpoint, most likely first, and the `facts` beside them: epoch, arguments, metadata.

    `title` is how messages call it.
    """

    title: str
    candidates: tuple[Candidate, ...]
    facts: Mapping[str, Any]


Source = str | Path | Mapping[str, Any] | Contents


def read(source: Source, title: str | None = None) -> Contents:
    """Return what a file, a folder (DeepSpeed's, transformers') or a mapping holds, on the CPU. Runs no code of it.

    Messages call it `title`, by default the path.

    Raises UserError, which says what it is, if it cannot be read, or holds no tensors.
    """
    if isinstance(source, Contents):
        return source
    title = title or ("the given state dict" if isinstance(source, Mapping) else str(source))
    if isinstance(source, Mapping):
        content, wanted = source, ""
    else:
        path, wanted = _split(Path(source))
        content = _read_path(path)
    found = sorted(_candidates(content), key=lambda candidate: candidate.averaged)
    if not found:
        raise UserError(f"{title} holds no tensors{_sharded(content)}: a state dict is needed")
    if wanted:
        chosen = [one for one in found if wanted in (one.container, one.container.rpartition("/")[2])]
        if not chosen:
            raise UserError(f"{title}: no container '{wanted}' among {_names(found)}")
        found = chosen
    facts = {key: value for key, value in content.items() if isinstance(key, str) and not isinstance(value, Tensor)}
    return Contents(title, tuple(found), facts)


def _split(path: Path) -> tuple[Path, str]:
    name, mark, container = path.name.rpartition("#")
    return (path.with_name(name), container) if mark and not path.exists() else (path, "")


def _names(found: list[Candidate]) -> str:
    return ", ".join(one.container or "(top level)" for one in found)


def _candidates(content: Any, path: tuple[str, ...] = ()) -> Iterator[Candidate]:
    if not isinstance(content, Mapping) or len(path) > DEEPEST:
        return
    container = "/".join(path)
    if isinstance(content, _pickles.Record) and (module := dict(_of_module(content))):
        yield Candidate(container, module)
        return
    own = {
        key: tensor for key, value in content.items() if isinstance(key, str) and (tensor := _plain(value)) is not None
    }
    inner = [key for key in CONTAINERS if key in content]
    inner += [key for key in content if isinstance(key, str) and key not in CONTAINERS and not SKIPPED.search(key)]
    parts: State = {}
    for key in inner:
        for found in _candidates(content[key], (*path, key)):
            yield found
            if key not in CONTAINERS and not found.averaged:
                inside = found.container.removeprefix(f"{container}/" if container else "").replace("/", ".")
                parts |= {f"{inside}.{name}": value for name, value in found.state.items()}
    if own:
        yield Candidate(container, own)
    if parts:
        yield Candidate(container, {**parts, **own})  # saved module by module


def _plain(value: Any) -> Tensor | None:
    """Return a tensor or a numeric array as a dense tensor of numbers, None for anything else."""
    if isinstance(value, _pickles.Sparse):
        try:
            return value.dense()
        except RuntimeError as error:
            raise UserError(f"a sparse tensor of the checkpoint is damaged: {error}") from None
    if isinstance(value, Tensor):
        return value.dequantize() if value.is_quantized else value
    if not isinstance(value, np.ndarray):
        return None
    if value.dtype.kind == "V" and value.dtype.itemsize == 2:  # how NumPy writes JAX's bfloat16
        return torch.from_numpy(np.array(value).view(np.int16)).view(torch.bfloat16)
    if value.dtype.kind not in "biufc":
        return None
    return torch.from_numpy(np.array(value, dtype=value.dtype.newbyteorder("="), order="C"))


def _of_module(record: Mapping[str, Any], prefix: str = "", depth: int = 0) -> Iterator[tuple[str, Tensor]]:
    """Yield the state dict of a whole module that was pickled, or of a TorchScript archive."""
    eager = "_modules" in record
    if not (eager or str(getattr(record, "origin", "")).startswith("__torch__.")) or depth > 32:
        return
    groups = ("_parameters", "_buffers", "_modules") if eager else ("",)
    for group in groups:
        entries = record.get(group) if group else record
        for key, value in (entries or {}).items():
            if isinstance(value, Tensor) and key not in (record.get("_non_persistent_buffers_set") or ()):
                yield f"{prefix}{key}", value
            elif isinstance(value, _pickles.Record):
                yield from _of_module(value, f"{prefix}{key}.", depth + 1)


def _sharded(content: Any) -> str:
    """Say so if the tensors are sharded over ranks."""
    values = content.values() if isinstance(content, Mapping) else ()
    parts = [part for value in values for part in (value.values() if isinstance(value, Mapping) else (value,))]
    if any(str(getattr(part, "origin", "")).startswith("torch.distributed") for part in (*values, *parts)):
        return " but shards of them (FSDP), to be joined by torch.distributed.checkpoint.format_utils"
    return ""


def _read_path(path: Path) -> Mapping[str, Any]:
    if not path.exists():
        raise UserError(f"checkpoint {path} does not exist")
    content = _read_folder(path) if path.is_dir() else _read_file(path)
    return content if isinstance(content, Mapping) else {"": content}


def _read_file(path: Path) -> Any:
    try:
        kind = _file_kinds.kind(path)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    try:
        if kind == "safetensors":
            return _read_safetensors(path)
        if kind == "npz":
            with np.load(path, allow_pickle=False) as arrays:
                return dict(arrays)
        return _pickles.read(path)
    except Exception as error:  # a damaged file can raise anything
        first = (str(error).splitlines() or [""])[0] or type(error).__name__
        if isinstance(error, EOFError) or CUT_SHORT.search(first):
            first = f"it is cut short, an incomplete download or copy ({first})"
        raise UserError(f"{path} is no readable checkpoint: {first}") from None


def _read_safetensors(path: Path) -> dict[str, Any]:
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        return {**(file.metadata() or {}), **{key: file.get_tensor(key) for key in file.keys()}}  # noqa: SIM118 (not iterable)


def _read_folder(folder: Path) -> Any:
    """Read transformers' layout, or DeepSpeed's."""
    name = next((name for name in HUGGING_FACE if (folder / name).is_file()), None)
    if name is None:
        return _read_file(_deepspeed_file(folder))
    config = folder / "config.json"
    facts = {"config": _read_json(config)} if config.is_file() else {}
    if not name.endswith(".json"):
        return {**facts, **_read_file(folder / name)}
    shards = sorted(set(map(str, _read_json(folder / name).get("weight_map", {}).values())))
    for shard in shards:
        if Path(shard).name != shard or not (folder / shard).is_file():
            raise UserError(f"{folder} lacks '{shard}', a shard that {name} lists: download it too")
    return {**facts, "state_dict": {key: value for one in shards for key, value in _read_file(folder / one).items()}}


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except ValueError as error:
        raise UserError(f"{path} is no JSON file: {error}") from None
    return content if isinstance(content, dict) else {}


def _deepspeed_file(folder: Path) -> Path:
    latest = folder / "latest"
    tagged = folder / latest.read_text().strip() if latest.is_file() else folder
    path = tagged / "mp_rank_00_model_states.pt"
    if path.is_file():
        return path
    if list(tagged.glob("zero_pp_rank_*_model_states.pt")):
        raise UserError(
            f"{tagged} is a ZeRO-3 checkpoint in pieces: join it with `reelbench export {folder} weights.safetensors "
            "--model MODEL`"
        )
    if list(folder.glob("*.distcp")):
        raise UserError(
            f"{folder} is a torch.distributed checkpoint in pieces: join it with `python -m "
            f"torch.distributed.checkpoint.format_utils dcp_to_torch {folder} weights.pth`"
        )
    raise UserError(
        f"{folder} is no checkpoint folder: neither {path.name} of DeepSpeed nor {HUGGING_FACE[0]} is in it"
    )
