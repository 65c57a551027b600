"""Shared by TimeSformer and ViViT: tokenization, the three kinds of attention, and the block.

Tokens of a clip are `N (1 + P T) D`: the class token, then patch-major, time-minor (token 1 + p T + t). Inside a
block LayerNorm has eps 1e-5, the final one 1e-6 (the original papers: 1e-6 everywhere).
Reference: github.com/mx-mark/VideoTransformer-pytorch, whose released weights these models read.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from ..errors import UserError
from ._layers import DropPath, Mlp, attend, drop_rates, run, split_heads
from ._time_shift import TimeShift

COPY_STRATEGIES = ("repeat", "set_zero")
EXTEND_STRATEGIES = ("temporal_avg", "center_frame")
# The released weights were trained with one mean and one deviation for all channels: 0.45 and 0.225 of 255.
MEAN = (114.75, 114.75, 114.75)
STD = (57.375, 57.375, 57.375)
# No weight decay for biases, norms, positions and tokens; `time_embed` is decayed, as in the reference.
DECAY_RULES = ((r"\.bias$|norm|pos_embed|cls_token", 0.0),)
# Of the last block's output only the class token is classified: the block before is the last whose patches matter.
GRADCAM_LAYER = "blocks.-2"


class PatchEmbed(nn.Module):
    """Patch (or tubelet) embedding, `tubelet` frames deep. `N 3 T H W` -> `N T/tubelet P D`."""

    def __init__(self, dim: int, patch: int, tubelet: int = 1) -> None:
        super().__init__()
        self.tubelet = tubelet
        if tubelet == 1:
            self.projection: nn.Conv2d | nn.Conv3d = nn.Conv2d(3, dim, patch, stride=patch)
        else:
            kernel = (tubelet, patch, patch)
            self.projection = nn.Conv3d(3, dim, kernel, stride=kernel)
        nn.init.kaiming_normal_(self.projection.weight, mode="fan_in", nonlinearity="relu")
        assert self.projection.bias is not None
        nn.init.zeros_(self.projection.bias)

    def forward(self, clip: Tensor) -> Tensor:
        if self.tubelet > 1:
            return self.projection(clip).flatten(3).permute(0, 2, 3, 1)
        frames = self.projection(clip.transpose(1, 2).flatten(0, 1))
        return frames.flatten(2).transpose(1, 2).unflatten(0, (clip.shape[0], clip.shape[2]))


class Attention(nn.Module):
    """Pre-norm self-attention over all tokens, with its residual. `N L D` -> `N L D`.

    `forward(x, frames)`: with a `shift`, N counts the frames of clips of `frames` frames, and tokens are shifted in
    time before attention; otherwise `frames` is unused.
    """

    def __init__(self, dim: int, heads: int, drop_path: float, shift: TimeShift | None = None) -> None:
        super().__init__()
        self.heads = heads
        self.shift = shift
        self.norm = nn.LayerNorm(dim, eps=1e-5)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.drop_path = DropPath(drop_path)

    def attend(self, x: Tensor) -> Tensor:
        """Return the update of normalized tokens, with stochastic depth per row: `B L D` -> `B L D`."""
        return self.drop_path(self.proj(attend(*split_heads(self.qkv(x), 3, self.heads))))

    def forward(self, x: Tensor, frames: int) -> Tensor:
        if self.shift is None:
            return x + self.attend(self.norm(x))
        shifted = self.attend(self.shift(self.norm(x), frames))
        return x + self.shift.back(shifted, frames)


class TimeAttention(Attention):
    """Temporal attention at each patch position; the class token is unchanged. `N (1 + P T) D` -> the same.

    In `forward(x, frames)`, `frames` is T. The output projection `temporal_fc` is initialized to zero, so that the
    block is initially an image model's.
    """

    def __init__(self, dim: int, heads: int, drop_path: float) -> None:
        super().__init__(dim, heads, drop_path)
        self.temporal_fc = nn.Linear(dim, dim)
        nn.init.zeros_(self.temporal_fc.weight)
        nn.init.zeros_(self.temporal_fc.bias)

    def forward(self, x: Tensor, frames: int) -> Tensor:
        patches = x[:, 1:]
        rows = self.norm(patches).unflatten(1, (-1, frames)).flatten(0, 1)  # (N P) T D
        update = self.temporal_fc(self.attend(rows)).unflatten(0, (x.shape[0], -1)).flatten(1, 2)
        return torch.cat((x[:, :1], patches + update), dim=1)


class SpaceAttention(Attention):
    """Spatial attention in each frame; the class token's T updates are averaged. `N (1 + P T) D` -> the same.

    In every method, `x` is not normalized yet, and `frames` is T.
    """

    def rows(self, x: Tensor, frames: int) -> Tensor:
        """Return each frame's normalized tokens, class token first: `(N T) (1 + P) D`."""
        x = self.norm(x)
        cls = x[:, None, :1].expand(-1, frames, -1, -1)
        patches = x[:, 1:].unflatten(1, (-1, frames)).transpose(1, 2)
        return torch.cat((cls, patches), dim=2).flatten(0, 1)

    def weights(self, x: Tensor, frames: int) -> Tensor:
        """Return the attention weights, `(N T) heads (1 + P) (1 + P)`, for visualization."""
        q, k, _ = split_heads(self.qkv(self.rows(x, frames)), 3, self.heads)
        return (q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])).softmax(dim=-1)

    def forward(self, x: Tensor, frames: int) -> Tensor:
        update = self.attend(self.rows(x, frames)).unflatten(0, (-1, frames))  # N T (1 + P) D
        cls = update[:, :, 0].mean(dim=1, keepdim=True)
        patches = update[:, :, 1:].transpose(1, 2).flatten(1, 2)
        return x + torch.cat((cls, patches), dim=1)


class Block(nn.Module):
    """Transformer block: joint attention, or with `divided` temporal then spatial attention; then the MLP.

    `forward(x, frames)`, `N L D` -> `N L D`, see the attentions. With `divided`, `shift` is ignored.
    """

    def __init__(
        self, dim: int, heads: int, drop_path: float, divided: bool = False, shift: TimeShift | None = None
    ) -> None:
        super().__init__()
        if divided:
            kinds = [TimeAttention(dim, heads, drop_path), SpaceAttention(dim, heads, drop_path)]
        else:
            kinds = [Attention(dim, heads, drop_path, shift)]
        self.attentions = nn.ModuleList(kinds)
        self.norm = nn.LayerNorm(dim, eps=1e-5)
        self.mlp = Mlp(dim, 4 * dim)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor, frames: int) -> Tensor:
        for attention in self.attentions:
            x = attention(x, frames)
        return self.drop_path(self.mlp(self.norm(x))).add_(x)  # in place: the backward pass needs neither operand


def make_blocks(
    depth: int, dim: int, heads: int, drop_path: float, divided: bool = False, shift_grid: tuple[int, int] | None = None
) -> nn.ModuleList:
    """Return an encoder's blocks, their stochastic depth rising linearly to `drop_path`.

    With `shift_grid`, a frame's (H, W) in patches, even blocks shift channels in time and odd blocks patches, unless
    attention is `divided`.
    """
    blocks = nn.ModuleList()
    for i, rate in enumerate(drop_rates(drop_path, depth)):
        shift = TimeShift(patch=i % 2 == 1, heads=heads, grid=shift_grid) if shift_grid else None
        blocks.append(Block(dim, heads, rate, divided, shift))
    return blocks


def encode(blocks: Iterable[nn.Module], x: Tensor, frames: int, checkpointed: bool) -> Tensor:
    """Run the blocks in order on clips of `frames` time steps. `B L D` -> `B L D`. For `checkpointed` see `run`."""
    for block in blocks:
        x = run(block, x, frames, checkpointed=checkpointed)
    return x


def frame_tokens(patches: Tensor, cls: Tensor, positions: Tensor) -> Tensor:
    """Return a sequence for each frame, class token first: `N T P D` -> `(N T) (1 + P) D`.

    `cls` is `1 1 D`; `positions`, `1 (1 + P) D`, are added.
    """
    cls = cls[:, None].expand(*patches.shape[:2], -1, -1)
    return (torch.cat((cls, patches), dim=2) + positions).flatten(0, 1)


def clip_tokens(patches: Tensor, cls: Tensor, positions: Tensor, times: Tensor) -> Tensor:
    """Return one sequence for each clip, class token first, then time-minor: `N T P D` -> `N (1 + P T) D`.

    `cls` is `1 1 D`; `positions`, `1 (1 + P) D`, are added to all tokens, `times`, `1 T D`, to the patches.
    """
    cls = (cls + positions[:, :1]).expand(patches.shape[0], -1, -1)
    patches = patches + positions[:, None, 1:] + times[:, :, None]
    return torch.cat((cls, patches.transpose(1, 2).flatten(1, 2)), dim=1)


def make_head(dim: int, num_classes: int) -> nn.Linear:
    """Return the classifier: one linear layer, truncated normal of 0.02, zero bias."""
    head = nn.Linear(dim, num_classes)
    nn.init.trunc_normal_(head.weight, std=0.02)
    nn.init.zeros_(head.bias)
    return head


def check_choice(model: str, option: str, value: str, known: tuple[str, ...]) -> None:
    """Check an option. Raises UserError, which lists the known values, if `value` is none of them."""
    if value not in known:
        raise UserError(f"{model}: {option}='{value}' is none of {', '.join(known)}")


def check_multiple(model: str, option: str, value: int, divisor: int) -> None:
    """Check a size. Raises UserError if `value` is no positive multiple of `divisor`."""
    if value <= 0 or value % divisor:
        raise UserError(f"{model}: {option}={value} must be a multiple of {divisor}")
