"""How the parameters of a checkpoint are named and laid out, and the translation into this package's names."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import UserError

State = dict[str, Tensor]

PROJECTIONS = (("query", "key", "value"), ("q_proj", "k_proj", "v_proj"))
# Blocks and the last norm of transformers' ViT and Swin, before the names of their attention's parts.
TRANSFORMERS = (
    (r"\.layernorm_before\.", ".norm1."),
    (r"\.layernorm_after\.", ".norm2."),
    (r"\.attention\.(output\.dense|o_proj)\.", ".attn.proj."),
    (r"\.intermediate\.dense\.", ".mlp.fc1."),
    (r"\.output\.dense\.", ".mlp.fc2."),
    (r"^layernorm\.", "norm."),
)
OWN = "reelbench"  # the name of this package's own naming, which is always tried


@dataclass(frozen=True, kw_only=True)
class Naming:
    """The names and layout that one origin of checkpoints (a library, a release) gives an architecture's parameters.

    - `convert` maps a whole state dict, without wrappers such as `module.`, to this package's names. It may join,
      transpose or drop tensors. It must pass on names that it does not know, so that they are reported, and must accept
      state dicts of any other origin, since every naming is tried.
    - `lost` matches the names of those that `convert` drops though the origin's network computes with them.
    - `layer_norm_eps` is what the origin's LayerNorms add to the variance, if all of them differ from this package's.
    """

    convert: Callable[[State], State] = dict
    layer_norm_eps: float | None = None
    lost: str = ""


def by_key(translate: Callable[[str], str | None]) -> Callable[[State], State]:
    """Return a `convert` that translates each name by itself; None drops the tensor.

    It raises UserError if two names become the same.
    """

    def convert(state: State) -> State:
        converted: State = {}
        for key, value in state.items():
            name = translate(key)
            if name is None:
                continue
            if name in converted:
                raise UserError(f"'{key}' names '{name}' a second time: remove one of them")
            converted[name] = value
        return converted

    return convert


def by_rules(*rules: tuple[str, str | Callable[[re.Match[str]], str]], drop: str = "") -> Callable[[State], State]:
    """Return a `convert` that makes these regex replacements in each name, in order; what `drop` matches is dropped.

    It raises UserError if two names become the same.
    """

    def translate(key: str) -> str | None:
        if drop and re.search(drop, key):
            return None
        for pattern, replacement in rules:
            key = re.sub(pattern, replacement, key)
        return key

    return by_key(translate)


def join(state: State) -> State:
    """Return the state dict with the projections of queries, keys and values as one each, named `qkv`."""
    joined = {}
    for key, value in state.items():
        path, _, leaf = key.rpartition(".")
        module, _, name = path.rpartition(".")
        parts = next((parts for parts in PROJECTIONS if name in parts), ())
        if not parts:
            joined[key] = value
        elif name == parts[0]:
            joined[f"{module}.qkv.{leaf}"] = torch.cat([state[f"{module}.{part}.{leaf}"] for part in parts])
    return joined


def split(state: State) -> State:
    """Return the state dict with each joint projection `qkv` as those of queries, keys and values: `q`, `k`, `v`."""
    pieces = {}
    for key, value in state.items():
        path, _, leaf = key.rpartition(".")
        module, _, name = path.rpartition(".")
        if name == "qkv":
            pieces |= {f"{module}.{part}.{leaf}": rows for part, rows in zip("qkv", value.chunk(3), strict=True)}
        else:
            pieces[key] = value
    return pieces
