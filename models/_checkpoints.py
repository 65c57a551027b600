"""Load weights: video checkpoints (strictly), 2D image checkpoints (inflated), initializations for fine-tuning.

`_state_dict` says what a source can be, `_match` finds its naming. Errors are `UserError`s that name what does not fit.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import nn

from ..errors import UserError
from . import _match, _origins, _state_dict
from ._match import Match
from ._naming import OWN, State
from ._probe import PROBE, Probed
from ._state_dict import Contents, Source

if TYPE_CHECKING:
    from ._variant import Variant

SHOWN = 4
POSITIONS = ("pos_embed", "time_embed")
EPSILON = "layer_norm_eps"  # a fact in the files that `export` and `convert` write
LEAST = 0.95  # of the backbone's parameters that fine-tuning must start from


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """What was loaded into a model: `tensors` of `total`; `left` are the names, of both, that were not.

    `text` is the whole of it in one line, with the naming and the container that were found.
    """

    tensors: int
    total: int
    left: tuple[str, ...]
    text: str

    def __str__(self) -> str:
        return self.text


def load(model: nn.Module, variant: Variant, source: Source) -> Loaded:
    """Load a video checkpoint strictly. Raises UserError if a key is missing, unexpected or mis-shaped.

    Also if the file is of another network whose tensors fit. Only batch norms' `num_batches_tracked`, and what is
    idle in inference (`unused_parameters`), may be missing; only modules beside a wrapped network, such as metrics,
    are left out.
    """
    contents = _state_dict.read(source)
    variant = replace(variant, namings={}, fit=None, objection=None) if isinstance(model, Probed) else variant
    match = _match.best(model, contents.candidates, variant.namings, _fit(model, variant))
    other = variant.objection and variant.objection(match.view.state.keys(), contents.facts)
    if other:
        raise UserError(f"{contents.title} is {other}, not {title(model)}")
    problems = _problems(model, match, missing_allowed=variant.unused_parameters)
    if problems:
        raise UserError(f"{contents.title} does not fit {title(model)}: {problems}{_hint(match, contents, model)}")
    _set_epsilon(model, match, contents)
    return _assign(model, match, contents)


def load_pretrained(model: nn.Module, variant: Variant, source: Source) -> Loaded:
    """Load a 2D image checkpoint, inflated by the official rule; the classifier keeps its initialization.

    Raises UserError if the architecture has no such rule, or the checkpoint does not fit.
    """
    if variant.inflate is None:
        raise UserError(f"{title(model)} has no rule for 2D image checkpoints: load a video checkpoint instead")
    contents = _state_dict.read(source)
    match = _match.best(
        model, contents.candidates, variant.image_namings, finish=functools.partial(variant.inflate, model)
    )
    problems = _problems(model, match, missing_allowed=variant.head)
    if problems:
        raise UserError(
            f"{contents.title} cannot be inflated into {title(model)}: {problems}{_hint(match, contents, model)}"
        )
    return _assign(model, match, contents)


def _fit(model: nn.Module, variant: Variant) -> Callable[[State], State]:
    return dict if variant.fit is None else functools.partial(variant.fit, model)


def init_from(model: nn.Module, variant: Variant, source: Source, *, partial: bool = False) -> Loaded:
    """Initialize from a video checkpoint of another data set; the classifier is loaded if its classes agree.

    Raises UserError if less than 95 % of the backbone's parameters (numbers, not tensors) are in the file, or with
    `partial`, none.
    """
    contents = _state_dict.read(source)
    match = _match.best(model, contents.candidates, variant.namings, _fit(model, variant))
    own = _match.shapes(model)
    fitting = {key: value for key, value in match.state.items() if own.get(key) == tuple(value.shape)}
    counted = {
        key: value.numel()
        for key, value in model.named_parameters()
        if not key.startswith((*_tuple(variant.head), *variant.unused_parameters))
    }
    inside = [key for key in counted if key in fitting]
    share = sum(counted[key] for key in inside) / sum(counted.values())
    if not inside or (share < LEAST and not partial):
        left = _problems(model, match, (*_tuple(variant.head), *variant.unused_parameters))
        raise UserError(
            f"{contents.title} holds {share:.0%} of the parameters of {title(model)}'s backbone "
            f"({len(inside)} of {len(counted)} tensors): {left}{_hint(match, contents, model)}; give a file of this "
            "model, or --init-from-partial to start with the rest random"
        )
    return _assign(model, match, contents)


def classes(model: nn.Module, variant: Variant, source: Source) -> int | None:
    """Return the number of classes of a video checkpoint's classifier, None if it has none; the model is not changed.

    The model may be on the meta device and have any number of classes.
    """
    match = _match.best(model, _state_dict.read(source).candidates, variant.namings)
    heads = [
        value.shape[0]
        for key, value in match.state.items()
        if key.startswith(variant.head) and key.endswith("weight") and value.ndim >= 2 and key in model.state_dict()
    ]
    return heads[-1] if heads else None


def metadata(model: nn.Module) -> dict[str, str]:
    """Return what a file of the model's weights must say for `load` to compute the same: see `_set_epsilon`."""
    epsilon = getattr(model, EPSILON, None)
    return {} if epsilon is None else {EPSILON: repr(epsilon)}


def _set_epsilon(model: nn.Module, match: Match, contents: Contents) -> None:
    """Give the LayerNorms what the file's origin adds to the variance, which its tensors do not tell."""
    told = contents.facts.get(EPSILON) if match.name == OWN else match.naming.layer_norm_eps
    if told is None:
        return
    model.layer_norm_eps = float(told)  # type: ignore[assignment]
    for name, module in model.named_modules():
        if isinstance(module, nn.LayerNorm) and not name.startswith(PROBE):
            module.eps = float(told)


@torch.no_grad()
def _assign(model: nn.Module, match: Match, contents: Contents) -> Loaded:
    own = _match.shapes(model)
    fitting = {key: value for key, value in match.state.items() if own.get(key) == tuple(value.shape)}
    model.load_state_dict(fitting, strict=False)
    required = [key for key in own if key in fitting or not _optional(key)]
    left = sorted({*required, *match.state} - fitting.keys())
    text = f"{contents.title}: {len(fitting)} of {len(required)} tensors of {title(model)}"
    text += f"; not loaded: {_groups(left)}" if left else ""
    text += _changes(match)
    text += f"; read as {match.name}'s naming" if match.name != OWN else ""
    return Loaded(tensors=len(fitting), total=len(required), left=tuple(left), text=text + _whence(match, contents))


def _changes(match: Match) -> str:
    """Return, as clauses of a message, which positions were resized, and what the network has no part for."""
    old, new = match.converted, match.state
    resized = [key for key in POSITIONS if key in old and key in new and old[key].shape != new[key].shape]
    sizes = (f"{key} from {old[key].shape[1]} to {new[key].shape[1]}" for key in resized)
    lost = [key for key in match.view.state if match.naming.lost and re.search(match.naming.lost, key)]
    text = f"; interpolated: {', '.join(sizes)}" if resized else ""
    return text + (f"; left out, as this network has no such part: {_list(lost)}" if lost else "")


def _whence(match: Match, contents: Contents) -> str:
    """Return the container, those beside it, and the epoch, as clauses of a message."""
    parts = [f", container `{match.container}`"] if match.container else []
    epoch = contents.facts.get("epoch")
    meta = contents.facts.get("meta")
    epoch = meta.get("epoch") if epoch is None and isinstance(meta, dict) else epoch
    parts += [f", epoch {epoch}"] if isinstance(epoch, (int, float)) else []
    averages = [one.container for one in contents.candidates if one.averaged and one.container != match.container]
    parts += [f"; also in the file: `{averages[0]}` (to take it, append #{averages[0]})"] if averages else []
    return "".join(parts)


def _problems(model: nn.Module, match: Match, missing_allowed: str | tuple[str, ...]) -> str:
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


def _hint(match: Match, contents: Contents, model: nn.Module) -> str:
    """Return what the file seems to be, as clauses that end a message."""
    own = model.state_dict()
    known = len(own.keys() & match.state.keys()) > len(own) / 2  # else the numbers of blocks mean nothing
    found = (_origins.seems(match.view.state, contents.facts), _origins.depths(match.state, own) if known else "")
    return "".join(f"; {clause}" for clause in found if clause)


def _optional(key: str) -> bool:
    # Files older than torch 0.4.1, torchvision's ResNets among them, have no such counter.
    return key.endswith("num_batches_tracked")


def _tuple(prefixes: str | tuple[str, ...]) -> tuple[str, ...]:
    return (prefixes,) if isinstance(prefixes, str) else prefixes


def _list(keys: Iterable[str]) -> str:
    keys = list(keys)
    return ", ".join(keys[:SHOWN]) + (f" and {len(keys) - SHOWN} more" if len(keys) > SHOWN else "")


def _groups(names: Iterable[str]) -> str:
    """Return names in short: those of one module as `cls_head.*`."""
    modules: dict[str, list[str]] = {}
    for name in names:
        modules.setdefault(name.partition(".")[0], []).append(name)
    return _list(
        f"{module}.*" if len(group) > SHOWN // 2 + 1 else ", ".join(group) for module, group in modules.items()
    )


def _shape(shape: Iterable[int]) -> str:
    return "×".join(str(n) for n in shape) or "scalar"


def title(model: nn.Module) -> str:
    """Return how messages call a model."""
    return str(getattr(model, "variant_name", type(model).__name__))
