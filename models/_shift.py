"""The temporal shift: some channels move by one frame along time, at no FLOPs.

Frames of one clip, `fold` channels each way (Lin et al., TSM, 2019):

    frame          0    1    2    3
    [0, fold)      1    2    3    0·      from the next frame      (0·: zeros)
    [fold, 2fold)  0·   0    1    2       from the previous one
    the rest       0    1    2    3       stays

Convolutional backbones get the shift as a callable on `(N T) C H W`: `ClipShift` for whole clips, `Stream` for one
frame at a time, with the channels of the previous frame cached.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor


class Shift(Protocol):
    """A shift of `(N T) C H W` along time, for clips of `frames` frames."""

    @property
    def frames(self) -> int: ...

    def __call__(self, x: Tensor) -> Tensor: ...


def _move(x: Tensor, frames: int, fold: int, reverse: bool) -> Tensor:
    # Each element is written once.
    x = x.unflatten(0, (-1, frames))
    out = torch.empty_like(x)
    first, second, rest = slice(0, fold), slice(fold, 2 * fold), slice(2 * fold, None)
    ahead, behind = (second, first) if reverse else (first, second)
    out[:, :-1, ahead] = x[:, 1:, ahead]
    out[:, -1, ahead] = 0
    out[:, 1:, behind] = x[:, :-1, behind]
    out[:, 0, behind] = 0
    out[:, :, rest] = x[:, :, rest]
    return out.flatten(0, 1)


class _Both(torch.autograd.Function):
    # The gradient of a shift is the shift the other way.
    @staticmethod
    def forward(ctx: Any, x: Tensor, frames: int, fold: int, reverse: bool) -> Tensor:
        ctx.how = (frames, fold, not reverse)
        return _move(x, frames, fold, reverse)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        return both(grads[0], *ctx.how), None, None, None  # type: ignore[return-value]


def both(x: Tensor, frames: int, fold: int, reverse: bool = False) -> Tensor:
    """Shift `fold` channels of `(N T) C H W` each way in clips of `frames` frames, zero-padded at both ends of a clip.

    The first `fold` channels come from the next frame, the next `fold` from the previous one; with `reverse` the other
    way.
    """
    if fold == 0:
        return x
    # torch.jit.trace, which the FLOP counter uses, does not support autograd functions.
    if torch.jit.is_tracing():  # type: ignore[reportPrivateImportUsage]
        return _move(x, frames, fold, reverse)
    return _Both.apply(x, frames, fold, reverse)  # type: ignore[return-value]


def past(x: Tensor, frames: int, fold: int) -> Tensor:
    """Take the first `fold` channels of `(N T) C H W` from the previous frame, in a clip's first zeros: causal.

    Clips have `frames` frames.
    """
    x = x.unflatten(0, (-1, frames))
    before = torch.cat([torch.zeros_like(x[:, :1, :fold]), x[:, :-1, :fold]], dim=1)
    return torch.cat([before, x[:, :, fold:]], dim=2).flatten(0, 1)


@dataclass(frozen=True, eq=False)  # older versions of torch.compile hash it before its fields are set
class ClipShift:
    """Shift 1/`div` of the channels each way in clips of `frames` frames, or with `past_only` from the past only."""

    frames: int
    div: int = 8
    past_only: bool = False

    def __call__(self, x: Tensor) -> Tensor:
        fold = x.shape[1] // self.div
        return past(x, self.frames, fold) if self.past_only else both(x, self.frames, fold)


class Stream:
    """Online inference, a frame at a time: `N 3 H W` -> logits `N classes`; caches the shifted channels of each block.

    `step(frames, shift)` runs the network, in eval mode, with the stream as the shift. Before the first frame the
    caches are zeros; they are never reset, and N must stay the same: make a new `Stream` for new videos.
    """

    frames = 1

    def __init__(self, step: Callable[[Tensor, Shift], Tensor], div: int) -> None:
        self._step = step
        self._div = div
        self._before: Iterator[Tensor] = iter(())
        self.caches: list[Tensor] = []

    @torch.inference_mode()
    def push(self, frame: Tensor) -> Tensor:
        """Return the logits of the next frame of every stream in the batch."""
        self._before, self.caches = iter(self.caches), []
        return self._step(frame, self)

    def __call__(self, x: Tensor) -> Tensor:
        fold = x.shape[1] // self._div
        self.caches.append(x[:, :fold].clone())
        return torch.cat([next(self._before, torch.zeros_like(x[:, :fold])), x[:, fold:]], dim=1)
