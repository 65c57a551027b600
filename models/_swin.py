"""The backbone that Video Swin and TPS share: patches, stages of windowed blocks, merging. Tokens are `B D H W C`.

Parameter names are those of the official release, SwinTransformer/Video-Swin-Transformer.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from . import _layers
from ._layers import DropPath, Mlp
from ._windows import Size3


class PatchEmbed(nn.Module):
    """Patch embedding with LayerNorm, the clip zero-padded at the end of each axis: `N 3 T H W` -> `N D H W C`."""

    def __init__(self, patch: Size3, dim: int) -> None:
        super().__init__()
        self.patch = patch
        self.proj = nn.Conv3d(3, dim, kernel_size=patch, stride=patch)
        self.norm = nn.LayerNorm(dim)

    def forward(self, clip: Tensor) -> Tensor:
        t, h, w = (-n % p for n, p in zip(clip.shape[2:], self.patch, strict=True))
        if t or h or w:
            clip = F.pad(clip, (0, w, 0, h, 0, t))
        return self.norm(self.proj(clip).permute(0, 2, 3, 4, 1))


class PatchMerging(nn.Module):
    """Merge 2x2 neighbors of a frame: `B D H W C` -> `B D H/2 W/2 2C`, an odd side zero-padded at the end."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * dim)
        self.reduction = nn.Linear(4 * dim, 2 * dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = F.pad(x, (0, 0, 0, x.shape[3] % 2, 0, x.shape[2] % 2))
        batch, depth, height, width, channels = x.shape
        x = x.view(batch, depth, height // 2, 2, width // 2, 2, channels)
        # The official order of the four: the row's parity varies fastest.
        x = x.permute(0, 1, 2, 4, 5, 3, 6).reshape(batch, depth, height // 2, width // 2, 4 * channels)
        return self.reduction(self.norm(x))


class Block(nn.Module):
    """A pre-norm transformer block around any attention on `B D H W C`."""

    def __init__(self, dim: int, attention: nn.Module, drop_path: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attn = attention
        self.drop_path = DropPath(drop_path)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, 4 * dim)

    def forward(self, x: Tensor) -> Tensor:
        x = self.drop_path(self.attn(self.norm1(x))).add_(x)  # in place: the backward pass needs neither operand
        return self.drop_path(self.mlp(self.norm2(x))).add_(x)


class Stage(nn.Module):
    """Blocks of one width, then patch merging (none after the last stage). Has no forward: `SwinBackbone` runs them."""

    def __init__(self, blocks: list[Block], downsample: PatchMerging | None) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.downsample = downsample


class SwinBackbone(nn.Module):
    """`N 3 T H W` -> `N C D H' W'`, normalized: C is the last stage's width, D = T / patch[0] rounded up.

    `attention(dim, heads, index)` makes the attention of block `index`, counted from 0 in each stage.
    """

    def __init__(
        self,
        attention: Callable[[int, int, int], nn.Module],
        *,
        patch: Size3,
        dim: int,
        depths: tuple[int, ...],
        heads: tuple[int, ...],
        drop_path: float,
        init_std: float,
        checkpoint_activations: bool,
    ) -> None:
        super().__init__()
        self.checkpoint_activations = checkpoint_activations
        self.patch_embed = PatchEmbed(patch, dim)
        rates = iter(_layers.drop_rates(drop_path, sum(depths)))
        dims = [dim * 2**i for i in range(len(depths))]
        self.layers = nn.ModuleList(
            Stage(
                [Block(width, attention(width, h, i), next(rates)) for i in range(depth)],
                PatchMerging(width) if width != dims[-1] else None,
            )
            for width, depth, h in zip(dims, depths, heads, strict=True)
        )
        self.norm = nn.LayerNorm(dims[-1])
        _layers.init_transformer(self, init_std)

    def forward(self, clip: Tensor) -> Tensor:
        run = partial(_layers.run, checkpointed=self.checkpoint_activations and self.training)
        x = self.patch_embed(clip)
        for stage in self.layers:
            for block in stage.blocks:  # type: ignore[union-attr]
                x = run(block, x)
            if stage.downsample is not None:
                x = stage.downsample(x)  # type: ignore[operator]
        return self.norm(x).permute(0, 4, 1, 2, 3)


def inflate(model: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the state dict of a 2D Swin checkpoint inflated to 3D by the official rule.

    The patch filter is repeated along time and divided by its length; each relative-position table is
    resized bicubically to the model's window and repeated for every temporal offset. The classifier is dropped.
    """
    own = model.state_dict()
    inflated: dict[str, Tensor] = {}
    for key, value in state.items():
        name = f"backbone.{key.removeprefix('backbone.')}"
        if key.startswith(("head.", "cls_head.")):
            continue
        if name == "backbone.patch_embed.proj.weight" and value.ndim == 4:
            time = own[name].shape[2]
            value = value.unsqueeze(2).repeat(1, 1, time, 1, 1) / time
        if name.endswith("relative_position_bias_table") and name in own:
            value = _inflate_table(value, own[name].shape[0], _side(model, name))
        inflated[name] = value
    return inflated


def _side(model: nn.Module, name: str) -> int:
    window: Size3 = model.get_submodule(name.rpartition(".")[0]).window  # type: ignore[assignment]
    return 2 * window[1] - 1


def _inflate_table(table: Tensor, rows: int, side: int) -> Tensor:
    pairs, heads = table.shape
    if pairs != side * side:
        square = round(pairs**0.5)
        image = table.t().reshape(1, heads, square, square)
        image = F.interpolate(image, size=(side, side), mode="bicubic", align_corners=False)
        table = image.reshape(heads, side * side).t()
    return table.repeat(rows // (side * side), 1)
