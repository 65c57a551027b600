"""How the parameters of a checkpoint are named and laid out, and the translation into this package's names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from ..errors import UserError

State = dict[str, Tensor]

OWN = "reelbench"  # the name of this package's own naming, which is always tried


@dataclass(frozen=True, kw_only=True)
class Naming:
    """The names and layout that one origin of checkpoints (a library, a release) gives an architecture's parameters.

    - `convert` maps a whole state dict, without wrappers such as `module.`, to this package's names. It may join,
      transpose or drop tensors. It must pass on names that it does not know, so that they are reported, and must accept
      state dicts of any other origin, since every naming is tried.
    - `layer_norm_eps` is what the origin's LayerNorms add to the variance, if all of them differ from this package's.
    """

    convert: Callable[[State], State] = dict
    layer_norm_eps: float | None = None


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
