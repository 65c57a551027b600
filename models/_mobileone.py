"""MobileOne (Vasu et al., 2023): several branches in training, fused into one convolution by `reparameterize`.

Parameter names are those of MMPretrain, the shifted blocks without the `.net` that MMAction2 adds.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ._conv import folded, folding_pays, init_convs
from ._shift import Shift


class _Branch(nn.Module):
    def __init__(self, ins: int, outs: int, kernel: int, stride: int, groups: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(ins, outs, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(outs)

    def forward(self, x: Tensor) -> Tensor:
        if folding_pays(x, self.conv, self.norm):
            # Private to torch: the convolution with another weight.
            return self.conv._conv_forward(x, *folded(self.conv.weight, self.norm))
        return self.norm(self.conv(x))


class _ConvOnly(nn.Module):
    def __init__(self, ins: int, outs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(ins, outs, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class SqueezeExcite(nn.Module):
    """Scale channels by a gate computed from their means (Hu et al., 2018). `N C H W` -> the same."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        squeezed = channels // 16
        self.conv1 = _ConvOnly(channels, squeezed)
        self.conv2 = _ConvOnly(squeezed, channels)

    def forward(self, x: Tensor) -> Tensor:
        gate = F.relu(self.conv1(F.adaptive_avg_pool2d(x, 1)))
        return x * self.conv2(gate).sigmoid()


class MobileOneBlock(nn.Module):
    """A convolution as the sum of branches, then squeeze-and-excitation with `se`, and ReLU.

    `N ins H W` -> `N outs H/stride W/stride`. The branches, each with batch norm: the convolution; a 1x1 one if
    `kernel` is larger; the identity if the shape stays. `deploy` builds the fused form, for weights that were fused.
    """

    def __init__(
        self,
        ins: int,
        outs: int,
        kernel: int,
        stride: int = 1,
        *,
        groups: int = 1,
        se: bool = False,
        deploy: bool = False,
    ) -> None:
        super().__init__()
        self.shape = (ins, outs, kernel, stride, groups)
        self.se = SqueezeExcite(outs) if se else nn.Identity()
        self.branch_reparam: nn.Conv2d | None = None
        if deploy:
            self.branch_reparam = self._fused()
            return
        self.branch_scale = _Branch(ins, outs, 1, stride, groups) if kernel > 1 else None
        self.branch_norm = nn.BatchNorm2d(ins) if ins == outs and stride == 1 else None
        self.branch_conv_list = nn.ModuleList([_Branch(ins, outs, kernel, stride, groups)])

    def forward(self, x: Tensor) -> Tensor:
        if self.branch_reparam is not None:
            return F.relu(self.se(self.branch_reparam(x)))
        branches = (*self.branch_conv_list, self.branch_scale, self.branch_norm)
        outputs = [branch(x) for branch in branches if branch is not None]
        return F.relu(self.se(sum(outputs[1:], outputs[0])))

    def reparameterize(self) -> None:
        """Replace the branches, for good, by one convolution `branch_reparam`, which computes the same in eval mode."""
        if self.branch_reparam is not None:
            return
        branches = (*self.branch_conv_list, self.branch_scale, self.branch_norm)
        kernels, biases = zip(*(self._kernel(b) for b in branches if b is not None), strict=True)
        fused = self._fused().to(kernels[0])
        fused.weight.data.copy_(torch.stack(kernels).sum(0))
        fused.bias.data.copy_(torch.stack(biases).sum(0))  # type: ignore[union-attr]
        self.branch_reparam = fused
        del self.branch_scale, self.branch_norm, self.branch_conv_list

    @torch.no_grad()
    def split(self, weight: Tensor, bias: Tensor) -> dict[str, Tensor]:
        """Return weights of the branches, by name, that compute the same in eval mode as a fused convolution.

        The convolution's branch has it, with a batch norm that changes nothing; the norms of the others are zero.
        """
        state = {key: value.clone() for key, value in self.state_dict().items()}
        norm = "branch_conv_list.0.norm."
        for key, value in state.items():
            if key.startswith("branch_") and value.ndim == 1 and not key.endswith("running_var"):
                value.zero_()
            elif key.endswith("running_var"):
                value.fill_(1.0)
        state["branch_conv_list.0.conv.weight"] = weight
        state[norm + "weight"].fill_((1 + self.branch_conv_list[0].norm.eps) ** 0.5)  # type: ignore[union-attr,operator]
        state[norm + "bias"] = bias
        return {key: value for key, value in state.items() if key.startswith("branch_")}

    def _fused(self) -> nn.Conv2d:
        ins, outs, kernel, stride, groups = self.shape
        return nn.Conv2d(ins, outs, kernel, stride, kernel // 2, groups=groups)

    def _kernel(self, branch: nn.Module) -> tuple[Tensor, Tensor]:
        ins, _, kernel, _, groups = self.shape
        if isinstance(branch, _Branch):
            norm, weight = branch.norm, branch.conv.weight
            weight = F.pad(weight, [(kernel - weight.shape[-1]) // 2] * 4)
        else:
            norm = branch
            weight = norm.weight.new_zeros(ins, ins // groups, kernel, kernel)  # type: ignore[operator,union-attr]
            for channel in range(ins):
                weight[channel, channel % (ins // groups), kernel // 2, kernel // 2] = 1.0
        assert isinstance(norm, nn.BatchNorm2d)
        return folded(weight, norm)


class MobileOne(nn.Module):
    """MobileOne, without head: `forward(x, shift)`, `(N T) 3 H W` -> `(N T) C H/32 W/32`, with C in `channels`.

    The shift (see `_shift`) is applied to the input of every `MobileOneBlock`, its identity branch included. A stage is
    (pairs, channels, pairs with squeeze-and-excitation at its end); a pair is a depthwise 3x3 block and a 1x1 block.
    """

    S4 = ((2, 192, 0), (8, 448, 0), (10, 896, 5), (1, 2048, 1))

    def __init__(self, stages: tuple[tuple[int, int, int], ...] = S4, *, deploy: bool = False) -> None:
        super().__init__()
        self.stage0 = MobileOneBlock(3, 64, 3, 2, deploy=deploy)
        ins = 64
        for number, (blocks, outs, excited) in enumerate(stages, 1):
            layers = nn.ModuleList()
            for i in range(blocks):
                se, stride = i >= blocks - excited, 2 if i == 0 else 1
                layers.append(MobileOneBlock(ins, ins, 3, stride, groups=ins, se=se, deploy=deploy))
                layers.append(MobileOneBlock(ins, outs, 1, se=se, deploy=deploy))
                ins = outs
            self.add_module(f"stage{number}", layers)
        self.stages = len(stages)
        self.channels = ins
        init_convs(self)

    def forward(self, x: Tensor, shift: Shift) -> Tensor:
        x = self.stage0(shift(x))
        for number in range(1, self.stages + 1):
            for block in self.get_submodule(f"stage{number}"):  # type: ignore[union-attr]
                x = block(shift(x))
        return x

    def reparameterize(self) -> None:
        """Replace every block's branches, in place and for good, by one convolution, the same in eval mode."""
        for module in self.modules():
            if isinstance(module, MobileOneBlock):
                module.reparameterize()
