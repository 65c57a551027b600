"""The two shifts of Temporal Patch Shift (Xiang et al., ECCV 2022), for any attention within single frames.

    shift = TimeShift(patch=True, heads=12, grid=(14, 14))
    x = x + shift.back(attend(shift(norm(x), frames)), frames)      # (N T) L C, L = class tokens + H W

Patch shift moves whole tokens along time, by the number of frames in this pattern (positive: to a later frame), and
back after attention. Channel shift replaces some channels of every head by those of the neighboring frames, and is not
undone.

    -4 +1 +2      tiled over the grid, or over a window; time wraps around
    -1  0 +3
    -2 -3 +4
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

PATTERN = ((-4, 1, 2), (-1, 0, 3), (-2, -3, 4))


class TimeShift:
    """Patch or channel shift, `shift(x, frames)`, of `(N T) L C` in clips of `frames` frames.

    The last H W tokens are shifted, `grid` = (H, W), not the class tokens before them. `heads` is for channel shift.
    """

    def __init__(self, *, patch: bool, heads: int, grid: tuple[int, int]) -> None:
        self.patch = patch
        self.heads = heads
        self.grid = grid

    def __call__(self, x: Tensor, frames: int) -> Tensor:
        return self._move(x, frames, +1)

    def back(self, x: Tensor, frames: int) -> Tensor:
        """Undo the patch shift; a channel shift is left as it is."""
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
    """Replace an eighth of every head's channels by the previous frame's, the next eighth by the next frame's.

    `B D ... C` -> the same, with frames along D and heads concatenated in C.
    At the ends of the clip, where there is no neighbor, the channels keep their own values.
    """
    x = x.unflatten(-1, (heads, -1))
    fold = x.shape[-1] // 8
    before, after = x[..., :fold], x[..., fold : 2 * fold]
    before = torch.cat([before[:, :1], before[:, :-1]], dim=1)
    after = torch.cat([after[:, 1:], after[:, -1:]], dim=1)
    return torch.cat([before, after, x[..., 2 * fold :]], dim=-1).flatten(-2)


@lru_cache(maxsize=16)
def steps(height: int, width: int, device: torch.device) -> Tensor:
    """Return by how many frames each token of a grid is patch-shifted, positive to a later one: int64 `(H W)`."""
    with torch.inference_mode(False):
        rows, columns = (torch.arange(length, device=device) % 3 for length in (height, width))
        return torch.tensor(PATTERN, device=device)[rows[:, None], columns[None, :]].flatten()


def sources(frames: int, steps: Tensor) -> Tensor:
    """Return the frame that each token comes from after the patch shift, (t - step) mod D: `D tokens`, D = `frames`."""
    return (torch.arange(frames, device=steps.device)[:, None] - steps[None, :]) % frames
