"""Temporal Patch Shift's two shifts, for any attention that looks at one frame at a time (Xiang et al., ECCV 2022).

    shift = TimeShift(patch=True, heads=12, grid=(14, 14))
    x = x + shift.back(attend(shift(norm(x), frames)), frames)      # (N T) L C, L = class tokens + H W

Patch shift exchanges whole tokens along time by the entry of this pattern, and moves them back after attention;
channel shift lends a part of every head's channels to the neighboring frames, and nothing goes back.

    -4 +1 +2      repeated over the grid, or over a window; the clip is a circle
    -1  0 +3
    -2 -3 +4
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

PATTERN = ((-4, 1, 2), (-1, 0, 3), (-2, -3, 4))


class TimeShift:
    """One of the two shifts for tokens `(N T) L C` of frames `grid` = (H, W); tokens before the last H W stay."""

    def __init__(self, *, patch: bool, heads: int, grid: tuple[int, int]) -> None:
        self.patch = patch
        self.heads = heads
        self.grid = grid

    def __call__(self, x: Tensor, frames: int) -> Tensor:
        return self._move(x, frames, +1)

    def back(self, x: Tensor, frames: int) -> Tensor:
        """Undo the exchange of tokens; borrowed channels stay where they are."""
        return self._move(x, frames, -1) if self.patch else x

    def _move(self, x: Tensor, frames: int, sign: int) -> Tensor:
        tokens = self.grid[0] * self.grid[1]
        x = x.unflatten(0, (-1, frames))  # N T L C
        fixed, moving = x[:, :, :-tokens], x[:, :, -tokens:]
        if self.patch:
            source = sources(frames, sign * steps(*self.grid, x.device))
            moving = moving[:, source, torch.arange(tokens, device=x.device)]
        else:
            moving = shift_channels(moving, self.heads)
        return torch.cat((fixed, moving), dim=2).flatten(0, 1)


def shift_channels(x: Tensor, heads: int) -> Tensor:
    """Take an eighth of every head's channels from the previous frame and an eighth from the next, `B D ... C`.

    The first and the last frame keep their own where there is no neighbor.
    """
    x = x.unflatten(-1, (heads, -1))
    fold = x.shape[-1] // 8
    before, after = x[..., :fold], x[..., fold : 2 * fold]
    before = torch.cat([before[:, :1], before[:, :-1]], dim=1)
    after = torch.cat([after[:, 1:], after[:, -1:]], dim=1)
    return torch.cat([before, after, x[..., 2 * fold :]], dim=-1).flatten(-2)


@lru_cache(maxsize=16)
def steps(height: int, width: int, device: torch.device) -> Tensor:
    """Return how many frames each token of a grid moves, `(H W)`."""
    with torch.inference_mode(False):
        rows, columns = (torch.arange(length, device=device) % 3 for length in (height, width))
        return torch.tensor(PATTERN, device=device)[rows[:, None], columns[None, :]].flatten()


def sources(frames: int, steps: Tensor) -> Tensor:
    """Return whose token stands at frame t after the exchange, that of frame t - step: `D tokens`."""
    return (torch.arange(frames, device=steps.device)[:, None] - steps[None, :]) % frames
