"""The 2D backbones of TSM, without head: ResNet (with non-local blocks) and MobileNetV2. Frames in, `(N T) C H W`.

The forward of a backbone, and of its blocks, takes the temporal shift as its second argument: `forward(x, shift)`, see
`_shift`. The shifted blocks apply it. Parameter names are those of MMAction2 without the wrappers (`.net`, `.block`)
that its shift and its non-local blocks add.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ._shift import Shift

NonLocalKind = Literal["dot", "gauss", "embedded"]
SMALL = 1 << 16  # outputs: a batch norm over fewer is faster than the calls that fold it


def folding_pays(x: Tensor, conv: nn.Conv2d | nn.Conv3d, norm: nn.Module) -> bool:
    """Return whether to fold the batch norm after a convolution of `x` into it: in CPU inference, if it saves time.

    The fold is recomputed in every forward pass, so that no folded weight is ever stale or stored.
    """
    if torch.is_grad_enabled() or norm.training or not x.is_cpu or conv.weight.element_size() < 4:
        return False  # a GPU would wait for more launches than it saves; half precision would round twice
    if getattr(norm, "running_var", None) is None:
        return False
    if torch.compiler.is_compiling() or torch.jit.is_tracing():  # type: ignore[reportPrivateImportUsage]
        return False  # compilers fuse better themselves, and batch norms are part of what is counted
    outputs = x.numel() // x.shape[1] // math.prod(conv.stride) * conv.out_channels
    return outputs > conv.weight.numel() + SMALL and not any(map(_has_hooks, (conv, norm)))


def folded(weight: Tensor, norm: nn.BatchNorm2d | nn.BatchNorm3d) -> tuple[Tensor, Tensor]:
    """Return weight and bias of a convolution with the batch norm after it folded in, by its running statistics."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
    return weight * scale.view(-1, *[1] * (weight.ndim - 1)), norm.bias.addcmul(norm.running_mean, scale, value=-1)


def _has_hooks(module: nn.Module) -> bool:
    """Return whether hooks (feature extraction, pruning, ZeRO-3) expect this module's own forward pass to run."""
    # Private to torch: it has no public way to ask whether a module has hooks.
    return bool(module._forward_hooks or module._forward_pre_hooks)


def add(y: Tensor, x: Tensor) -> Tensor:
    """Return y + x, in place (into `y`) unless gradients are enabled."""
    return y + x if torch.is_grad_enabled() else y.add_(x)


class ConvBN(nn.Module):
    """Convolution, batch norm and an activation or none. `N C H W` -> `N C' H/stride W/stride`."""

    def __init__(
        self, ins: int, outs: int, kernel: int, stride: int = 1, *, groups: int = 1, act: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(ins, outs, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(outs)
        self.act = act or nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        if folding_pays(x, self.conv, self.bn):
            # Private to torch: the convolution with another weight, its padding mode included.
            return self.act(self.conv._conv_forward(x, *folded(self.conv.weight, self.bn)))
        return self.act(self.bn(self.conv(x)))


class NonLocal(nn.Module):
    """Non-local block: attention over all positions of the clip, residual. `N C T H W` -> the same.

    With `pool`, keys and values are max-pooled 2x2 in space. A new block is the identity (its batch norm scales by 0).
    Wang et al., Non-local Neural Networks, 2018; as NonLocal3d of mmcv: no scaling of the scores, `dot` divides by the
    number of keys instead of taking the softmax, `gauss` compares the features themselves.
    """

    def __init__(self, channels: int, kind: NonLocalKind, *, pool: bool = True) -> None:
        super().__init__()
        inner = channels // 2
        self.kind = kind
        self.g = nn.Conv3d(channels, inner, 1)
        if kind != "gauss":
            self.theta = nn.Conv3d(channels, inner, 1)
            self.phi = nn.Conv3d(channels, inner, 1)
        self.conv_out = nn.Sequential()
        self.conv_out.add_module("conv", nn.Conv3d(inner, channels, 1, bias=False))
        self.conv_out.add_module("bn", nn.BatchNorm3d(channels))
        self.pool = nn.MaxPool3d((1, 2, 2)) if pool else nn.Identity()
        for module in self.modules():
            if isinstance(module, nn.Conv3d):
                nn.init.normal_(module.weight, std=0.01)
        nn.init.zeros_(self.conv_out.bn.weight)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        query, key = (x, x) if self.kind == "gauss" else (_pointwise(self.theta, x), _pointwise(self.phi, x))
        maps = query, self.pool(key), self.pool(_pointwise(self.g, x))
        query, key, value = (t.flatten(2).transpose(1, 2) for t in maps)  # N (T H W) C
        if self.kind == "dot":
            y = query @ (key / key.shape[1]).transpose(1, 2) @ value
        else:
            y = F.scaled_dot_product_attention(query[:, None], key[:, None], value[:, None], scale=1.0)[:, 0]
        y = y.transpose(1, 2).unflatten(2, x.shape[2:])
        conv, norm = self.conv_out.conv, self.conv_out.bn
        assert isinstance(conv, nn.Conv3d)
        assert isinstance(norm, nn.BatchNorm3d)
        if folding_pays(y, conv, norm):
            return add(_linear(y, *folded(conv.weight, norm)), x)
        return add(norm(_pointwise(conv, y)), x)


def _pointwise(conv: nn.Conv3d, x: Tensor) -> Tensor:
    return _linear(x, conv.weight, conv.bias)


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Run a 1x1x1 convolution as a matrix product, which copies no channels-last features."""
    return F.linear(x.movedim(1, -1), weight.flatten(1), bias).movedim(-1, 1)


class Bottleneck(nn.Module):
    """ResNet's 1x1, 3x3, 1x1 block: `forward(x, shift)`, `(N T) ins H W` -> `(N T) (4 width) H/stride W/stride`.

    `shifted` applies the shift to the input of the residual branch only. `non_local` adds a `NonLocal` block of that
    kind, over clips of `shift.frames` frames.
    """

    def __init__(self, ins: int, width: int, stride: int, *, shifted: bool, non_local: NonLocalKind | None) -> None:
        super().__init__()
        outs = 4 * width
        self.shifted = shifted
        self.conv1 = ConvBN(ins, width, 1, act=nn.ReLU(inplace=True))
        self.conv2 = ConvBN(width, width, 3, stride, act=nn.ReLU(inplace=True))
        self.conv3 = ConvBN(width, outs, 1)
        self.downsample = ConvBN(ins, outs, 1, stride) if stride != 1 or ins != outs else None
        self.non_local = NonLocal(outs, non_local) if non_local else None

    def forward(self, x: Tensor, shift: Shift) -> Tensor:
        identity = x if self.downsample is None else self.downsample(x)
        y = self.conv3(self.conv2(self.conv1(shift(x) if self.shifted else x)))
        y = F.relu(add(y, identity), inplace=True)
        if self.non_local is None:
            return y
        y = self.non_local(y.unflatten(0, (-1, shift.frames)).transpose(1, 2))
        return y.transpose(1, 2).flatten(0, 1)


class ResNet(nn.Module):
    """ResNet with bottlenecks, without head: `forward(x, shift)`, `(N T) 3 H W` -> `(N T) C H/32 W/32`.

    `depths` are the blocks of its four stages; C, in `channels`, is 32 `width`. Very deep ones (a third stage of 23
    blocks or more) shift every second block only. With `non_local`, every second block of the stages in
    `NON_LOCAL_STAGES` ends in a non-local block.
    """

    NON_LOCAL_STAGES = (1, 2)

    def __init__(self, depths: Sequence[int], *, width: int = 64, non_local: NonLocalKind | None = None) -> None:
        super().__init__()
        self.conv1 = ConvBN(3, width, 7, 2, act=nn.ReLU(inplace=True))
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        every = 2 if depths[2] >= 23 else 1
        ins = width
        for stage, depth in enumerate(depths):
            blocks = nn.ModuleList()
            for i in range(depth):
                attends = non_local if stage in self.NON_LOCAL_STAGES and i % 2 == 0 else None
                stride = 2 if stage > 0 and i == 0 else 1
                blocks.append(Bottleneck(ins, width * 2**stage, stride, shifted=i % every == 0, non_local=attends))
                ins = 4 * width * 2**stage
            self.add_module(f"layer{stage + 1}", blocks)
        self.channels = ins
        init_convs(self)

    def forward(self, x: Tensor, shift: Shift) -> Tensor:
        x = self.maxpool(self.conv1(x))
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            for block in stage:  # type: ignore[union-attr]
                x = block(x, shift)
        return x


class InvertedResidual(nn.Module):
    """MobileNetV2's block: expand 1x1, depthwise 3x3, project 1x1. `forward(x, shift)` on `(N T) C H W`.

    It has a shortcut if `stride` is 1 and `ins` = `outs`; if it also expands, the residual branch is shifted.
    """

    def __init__(self, ins: int, outs: int, stride: int, expand: int) -> None:
        super().__init__()
        hidden = ins * expand
        self.residual = stride == 1 and ins == outs
        self.conv = nn.ModuleList()
        if expand != 1:
            self.conv.append(ConvBN(ins, hidden, 1, act=nn.ReLU6(inplace=True)))
        self.conv.append(ConvBN(hidden, hidden, 3, stride, groups=hidden, act=nn.ReLU6(inplace=True)))
        self.conv.append(ConvBN(hidden, outs, 1))
        self.shifted = self.residual and expand != 1

    def forward(self, x: Tensor, shift: Shift) -> Tensor:
        y = shift(x) if self.shifted else x
        for conv in self.conv:
            y = conv(y)
        return add(y, x) if self.residual else y


class MobileNetV2(nn.Module):
    """MobileNetV2 (Sandler et al., 2018), headless: `forward(x, shift)`, `(N T) 3 H W` -> `(N T) 1280 H/32 W/32`."""

    # (expansion, channels, blocks, stride) of each layer
    LAYERS = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))

    def __init__(self) -> None:
        super().__init__()
        self.channels = 1280
        self.conv1 = ConvBN(3, 32, 3, 2, act=nn.ReLU6(inplace=True))
        ins = 32
        for number, (expand, outs, blocks, stride) in enumerate(self.LAYERS, 1):
            layer = nn.ModuleList()
            for i in range(blocks):
                layer.append(InvertedResidual(ins, outs, stride if i == 0 else 1, expand))
                ins = outs
            self.add_module(f"layer{number}", layer)
        self.conv2 = ConvBN(ins, self.channels, 1, act=nn.ReLU6(inplace=True))
        init_convs(self)

    def forward(self, x: Tensor, shift: Shift) -> Tensor:
        x = self.conv1(x)
        for number in range(1, len(self.LAYERS) + 1):
            for block in self.get_submodule(f"layer{number}"):  # type: ignore[union-attr]
                x = block(x, shift)
        return self.conv2(x)


def init_convs(module: nn.Module) -> None:
    """Initialize the weights of 2D convolutions for ReLU (He et al., 2015, fan-out); all else is left as it is."""
    for child in module.modules():
        if isinstance(child, nn.Conv2d):
            nn.init.kaiming_normal_(child.weight, mode="fan_out", nonlinearity="relu")
