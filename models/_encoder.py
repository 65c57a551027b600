"""What a network computes before its classifier: the features that a probe is trained on.

Pooled features, `N D`, are what the classifier is given: it is taken out, and the network returns them. Tokens,
`N L D`, are the last output of that width with more than one position of a frame or clip: before pooling, or before the
class token is picked. A network may say it itself, by a method `token_encoder()`: the module from clips to tokens, and
as its `pool`, how to get pooled features of them (without it, their mean). Those of `hf` do.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import UserError
from ..spec import Clip
from . import _outline
from ._variant import Variant

Shape = tuple[int, ...]
REMEDY = "give the network a method token_encoder(), which returns a module from clips to tokens N×L×width"


class Pooled(nn.Module):
    """The pooled features of a network that has a `token_encoder`. `N 3 T H W` -> `N D`."""

    def __init__(self, tokens: nn.Module) -> None:
        super().__init__()
        self.tokens = tokens

    def forward(self, clip: Tensor) -> Tensor:
        tokens = self.tokens(clip)
        pool = getattr(self.tokens, "pool", None)
        return tokens.mean(1) if pool is None else pool(tokens)


class Tokens(nn.Module):
    """The output of one module of a network, as tokens. `N 3 T H W` -> `N L D`; `axis` is that of the channels."""

    def __init__(self, network: nn.Module, path: str, axis: int) -> None:
        super().__init__()
        self.network, self.path, self.axis = network, path, axis

    def forward(self, clip: Tensor) -> Tensor:
        seen: list[Tensor] = []
        module = self.network.get_submodule(self.path)
        handle = module.register_forward_hook(lambda _, __, output: seen.append(_first(output)))
        try:
            self.network(clip)
        finally:
            handle.remove()
        channels_last = seen[-1].movedim(self.axis, -1)
        # Not len(clip), an int that torch.export would take for the only batch size.
        return channels_last.reshape(clip.shape[0], -1, channels_last.shape[-1])


def encoder(network: nn.Module, variant: Variant, clip: Clip, *, tokens: bool) -> tuple[nn.Module, int]:
    """Return the encoder of a network, which is changed, and the width of its features: tokens, else pooled.

    Raises UserError if they are not found.
    """
    title = str(getattr(network, "variant_name", type(network).__name__))
    own: Any = getattr(network, "token_encoder", None)
    if callable(own) and not isinstance(own, nn.Module):
        inner: Any = own()
        found: nn.Module = inner if tokens else Pooled(inner)
        shape = _outlined(found, clip)[0]
        if len(shape) != (3 if tokens else 2):
            raise UserError(f"{title}: its token_encoder gives {_times(shape)}, not tokens N×L×width")
        return found, shape[-1]
    _take_out_classifier(network, variant, title)
    shape, outputs = _outlined(network, clip)
    if len(shape) != 2:
        raise UserError(f"{title}: without its classifier it gives {_times(shape)}, not features N×width: {REMEDY}")
    if not tokens:
        return network, shape[1]
    places = (_place(name, output, shape, frames) for frames in (False, True) for name, output in reversed(outputs))
    place = next(filter(None, places), None)
    if place is None:
        raise UserError(
            f"{title}: no tokens of width {shape[1]} are found before its classifier: take --probe linear, or {REMEDY}"
        )
    return Tokens(network, *place), shape[1]


def _take_out_classifier(network: nn.Module, variant: Variant, title: str) -> None:
    """Put the identity in place of the modules whose parameters' shapes follow the number of classes."""
    heads = _outline.heads(functools.partial(variant.build, **variant.kwargs))
    modules = dict(network.named_modules())
    paths = [prefix.removesuffix(".") for prefix in heads if prefix.removesuffix(".") in modules]
    if not paths or not all(prefix.endswith(".") for prefix in heads):
        raise UserError(f"{title}: its classifier is not found, so neither are its features: {REMEDY}")
    for path in paths:
        parent, _, name = path.rpartition(".")
        setattr(network.get_submodule(parent), name, nn.Identity())


def _outlined(network: nn.Module, clip: Clip) -> tuple[Shape, list[tuple[str, Shape]]]:
    """Return the shapes of a network's output for two clips, and of its modules' outputs in order, without computing.

    With values only where a network needs them, see `_outline.on_meta`.
    """
    outputs: list[tuple[str, Shape]] = []

    def keep(name: str, output: Any) -> None:
        if isinstance(first := _first(output), Tensor) and first.ndim >= 3:
            outputs.append((name, tuple(first.shape)))

    def run() -> Any:
        outputs.clear()
        place = torch.empty(0).device
        state = {key: value.to(place) for key, value in _named(network).items()}
        clips = torch.zeros(2, 3, clip.frames, clip.size, clip.size)
        with torch.no_grad():
            return torch.func.functional_call(network, state, (clips,))

    training = network.training
    handles = [
        module.register_forward_hook(lambda _, __, output, name=name: keep(name, output))
        for name, module in network.eval().named_modules()
        if name
    ]
    try:
        found = _outline.on_meta(run)
    finally:
        network.train(training)
        for handle in handles:
            handle.remove()
    shape: Shape = tuple(found.shape) if isinstance(found, Tensor) else ()
    return shape, outputs


def _named(network: nn.Module) -> dict[str, Tensor]:
    return {**dict(network.named_parameters()), **dict(network.named_buffers())}


def _place(name: str, output: Shape, features: Shape, frames: bool) -> tuple[str, int] | None:
    """Return the module's name and the axis of the channels if its output are tokens of the features' width.

    Tokens are more than one position of an entry of the first axis, which may hold clips or frames: what is pooled has
    one. With `frames` those of frames do as well, as of small frames there are no others.
    """
    clips, width = features
    first, axes = output[0], (1, -1) if len(output) > 3 else (-1,)
    axis = next((axis for axis in axes if output[axis] == width), None)
    if axis is None or first % clips:
        return None
    positions = math.prod(output) // (width * (clips if frames else first))
    return (name, axis) if positions > 1 else None


def _first(output: Any) -> Any:
    return output[0] if isinstance(output, tuple) and output else output


def _times(shape: Shape) -> str:
    return "×".join(map(str, shape)) or "no tensor"
