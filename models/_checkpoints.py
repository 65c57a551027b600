"""Load weights: video checkpoints (strictly), 2D image checkpoints (inflated), initializations for fine-tuning.

A source is a `.pth`, `.pt` or `.safetensors` file, a DeepSpeed folder, or a mapping of tensors. Parameter names may be
ours or those of another origin (see `_match`). Tensors are read onto the CPU. Errors are
`UserError`s that name the keys.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..errors import UserError
from . import _match
from ._naming import State

if TYPE_CHECKING:
    from ._variant import Variant

Source = str | Path | Mapping[str, Any]

CONTAINERS = ("state_dict", "module", "model", "model_state", "model_state_dict")
# Libraries whose objects trainers pickle beside the weights: read as placeholders, so that no code of theirs runs.
PICKLED_LIBRARIES = (
    "argparse.", "deepspeed.", "fvcore.", "lightning.", "lightning_fabric.", "mmcv.", "mmengine.", "numpy.",
    "omegaconf.", "pathlib.", "pytorch_lightning.", "yacs.",
)  # fmt: skip
SHOWN = 4


class _Inert:
    """Placeholder for a pickled object of a training library: ignores its state and does nothing."""

    def __new__(cls, *args: object) -> _Inert:
        return super().__new__(cls)

    def __init__(self, *args: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


def load(model: nn.Module, variant: Variant, source: Source) -> None:
    """Load a video checkpoint strictly. Raises UserError if a key is missing, unexpected or mis-shaped.

    Only batch norms' `num_batches_tracked` may be missing, and only modules beside a wrapped network, such as metrics,
    are left out.
    """
    match = _match.best(model, read(source), variant.namings)
    problems = _problems(model, match, missing_allowed=())
    if problems:
        raise UserError(f"{_name(source)} does not fit {_title(model)}: {problems}")
    model.load_state_dict(match.state, strict=False)
    if match.naming.layer_norm_eps is not None:
        for module in model.modules():
            if isinstance(module, nn.LayerNorm):
                module.eps = match.naming.layer_norm_eps


def load_pretrained(model: nn.Module, variant: Variant, source: Source) -> None:
    """Load a 2D image checkpoint, inflated by the official rule; the classifier keeps its initialization.

    Raises UserError if the architecture has no such rule, or the checkpoint does not fit.
    """
    if variant.inflate is None:
        raise UserError(f"{_title(model)} has no rule for 2D image checkpoints: load a video checkpoint instead")
    match = _match.best(model, read(source), variant.image_namings, finish=partial(variant.inflate, model))
    problems = _problems(model, match, missing_allowed=variant.head)
    if problems:
        raise UserError(f"{_name(source)} cannot be inflated into {_title(model)}: {problems}")
    model.load_state_dict(match.state, strict=False)


def init_from(model: nn.Module, variant: Variant, source: Source) -> list[str]:
    """Initialize from a video checkpoint of another data set; return the keys not loaded, except the classifier's.

    They are the keys, in our naming, that only the model or only the checkpoint has, or mis-shaped. The classifier is
    loaded if the number of classes agrees and keeps its initialization otherwise. Raises UserError if no other weight
    fits.
    """
    match = _match.best(model, read(source), variant.namings)
    own = _match.shapes(model)
    fitting = {key: value for key, value in match.state.items() if own.get(key) == tuple(value.shape)}
    if not any(not key.startswith(variant.head) for key in fitting):
        raise UserError(f"{_name(source)} holds no weight of {_title(model)}: {_problems(model, match, ())}")
    model.load_state_dict(fitting, strict=False)
    rest = (own.keys() | match.state.keys()) - fitting.keys()
    return sorted(key for key in rest if not key.startswith(variant.head) and not _optional(key))


def read(source: Source) -> State:
    """Return the tensors of a source by name, unpacked from `CONTAINERS`, other values left out.

    No code in a file is run. Raises UserError if the source
    cannot be read (as ZeRO 3's shards), would run code, or holds no tensors.
    """
    if isinstance(source, Mapping):
        content: Any = source
    else:
        path = Path(source)
        if path.is_dir():
            path = _deepspeed_file(path)
        elif not path.exists():
            raise UserError(f"checkpoint {path} does not exist")
        content = _read_file(path)
    state = {key: value for key, value in _unpack(content).items() if isinstance(value, Tensor)}
    if not state:
        raise UserError(f"{_name(source)} holds no tensors: a state dict is needed, flat or under {CONTAINERS}")
    return state


def _unpack(content: Any) -> Mapping[str, Any]:
    while isinstance(content, Mapping):
        inner = next((content[c] for c in CONTAINERS if isinstance(content.get(c), Mapping)), None)
        if inner is None:
            return {key: value for key, value in content.items() if isinstance(key, str)}
        content = inner
    return {}


def _read_file(path: Path) -> Any:
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except SafetensorError as error:
            raise UserError(f"{path} is no readable safetensors file: {error}") from None
    try:
        with torch.serialization.safe_globals(_placeholders(path)):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "GLOBAL" not in str(error) and "weights_only" not in str(error).lower():
            raise UserError(f"{path} is no readable checkpoint: {_first_line(error)}") from None
        raise UserError(
            f"{path} would execute code when loaded, so it was not loaded: re-save its state dict alone"
        ) from None
    except (RuntimeError, EOFError, ValueError, KeyError) as error:
        raise UserError(f"{path} is no readable checkpoint: {_first_line(error)}") from None


def _placeholders(path: Path) -> list[Any]:
    try:
        unsafe = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except (ValueError, RuntimeError, pickle.UnpicklingError):
        return []
    return [(_Inert, name) for name in unsafe if name.startswith(PICKLED_LIBRARIES)]


def _deepspeed_file(folder: Path) -> Path:
    latest = folder / "latest"
    tagged = folder / latest.read_text().strip() if latest.is_file() else folder
    path = tagged / "mp_rank_00_model_states.pt"
    if path.is_file():
        return path
    if list(tagged.glob("zero_pp_rank_*_model_states.pt")):
        raise UserError(f"{tagged} is a ZeRO-3 checkpoint in pieces: join it with `python {folder}/zero_to_fp32.py`")
    raise UserError(f"{folder} is no DeepSpeed checkpoint: there is no {path.name} in {tagged}")


def _problems(model: nn.Module, match: _match.Match, missing_allowed: str | tuple[str, ...]) -> str:
    own, state = _match.shapes(model), match.state
    missing = [k for k in own if k not in state and not k.startswith(missing_allowed) and not _optional(k)]
    unexpected = [key for key in state if key not in own and key not in match.view.beside]
    shaped = [
        f"{key} is {_shape(value.shape)} in the file and {_shape(own[key])} in the model"
        for key, value in state.items()
        if key in own and tuple(value.shape) != own[key]
    ]
    found = (("missing", missing), ("unexpected", unexpected), ("mis-shaped", shaped))
    return "; ".join(f"{len(keys)} {kind} ({_list(keys)})" for kind, keys in found if keys)


def _optional(key: str) -> bool:
    # Files older than torch 0.4.1, torchvision's ResNets among them, have no such counter.
    return key.endswith("num_batches_tracked")


def _list(keys: Iterable[str]) -> str:
    keys = list(keys)
    return ", ".join(keys[:SHOWN]) + (f" and {len(keys) - SHOWN} more" if len(keys) > SHOWN else "")


def _shape(shape: Iterable[int]) -> str:
    return "×".join(str(n) for n in shape) or "scalar"


def _title(model: nn.Module) -> str:
    return str(getattr(model, "variant_name", type(model).__name__))


def _name(source: Source) -> str:
    return "the given state dict" if isinstance(source, Mapping) else str(source)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
