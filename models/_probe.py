"""Probes: a small head, trained on the features of an encoder that stays as it is.

    model = models.build("video_swin/t", probe="attentive", num_classes=174)    # N 3 T H W -> N 174

- `linear`: features standardized by their mean and deviation over the training videos, then a linear layer. Linear
  probing of K. He et al., Masked Autoencoders Are Scalable Vision Learners, CVPR 2022, has a batch norm without affine
  parameters there, as features of different encoders differ in scale by orders of magnitude and the same learning rate
  must suit all. Its running averages estimate what is known here, because all features are there before training.
- `attentive`: the attentive probe of A. Bardes et al., Revisiting Feature Prediction for Learning Visual
  Representations from Video (V-JEPA), 2024: one learned query attends to the normalized tokens, followed by an MLP,
  both residual, then a linear layer. It does not matter to it how an encoder would pool.
"""

from __future__ import annotations

from typing import Any, get_args

import torch
from torch import Tensor, nn

from ..errors import unknown
from ..spec import Clip, ProbeKind
from . import _encoder
from ._layers import Mlp
from ._variant import Variant

EPSILON = 1e-6  # added to the variance, as in MAE's batch norm
HEAD_WIDTH = 64  # channels of an attention head, as in V-JEPA's
INIT_STD = 0.02
ENCODER, PROBE = "encoder.", "probe."  # how the parameters of a probed network begin


class LinearProbe(nn.Module):
    """Standardization, then a linear layer. `N D` -> `N classes`. `set_statistics` once before it is trained."""

    mean: Tensor
    variance: Tensor

    def __init__(self, width: int, num_classes: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("variance", torch.ones(width))
        self.linear = nn.Linear(width, num_classes)
        nn.init.trunc_normal_(self.linear.weight, std=0.01)
        nn.init.zeros_(self.linear.bias)

    def set_statistics(self, mean: Tensor, variance: Tensor) -> None:
        """Set the training features' mean and variance, each `D`."""
        self.mean.copy_(mean)
        self.variance.copy_(variance)

    def forward(self, features: Tensor) -> Tensor:
        return self.linear((features - self.mean) * (self.variance + EPSILON).rsqrt())


class AttentiveProbe(nn.Module):
    """Pooling by the cross-attention of one learned query, then a linear layer. `N L D` -> `N classes`."""

    def __init__(self, width: int, num_classes: int) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.empty(1, 1, width))
        self.norm = nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, heads(width), batch_first=True)
        self.mlp_norm = nn.LayerNorm(width)
        self.mlp = Mlp(width, 4 * width)
        self.linear = nn.Linear(width, num_classes)
        self._initialize()

    def _initialize(self) -> None:
        """Initialize as V-JEPA does: small normals, zeros, and residual branches scaled down."""
        for name, parameter in self.named_parameters():
            if parameter.ndim > 1:
                nn.init.trunc_normal_(parameter, std=INIT_STD)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)
        with torch.no_grad():
            self.attention.out_proj.weight.div_(2**0.5)
            self.mlp.fc2.weight.div_(2**0.5)

    def forward(self, tokens: Tensor) -> Tensor:
        query, tokens = self.query.expand(tokens.shape[0], -1, -1), self.norm(tokens)
        pooled = query + self.attention(query, tokens, tokens, need_weights=False)[0]
        pooled = pooled + self.mlp(self.mlp_norm(pooled))
        return self.linear(pooled[:, 0])


def heads(width: int) -> int:
    """Return the number of attention heads: of 64 channels each, or a little more if that does not divide the width.

    >>> heads(1024), heads(100), heads(32)
    (16, 1, 1)
    """
    return next(count for count in range(max(1, width // HEAD_WIDTH), 0, -1) if width % count == 0)


class Probed(nn.Module):
    """A frozen encoder, always in eval mode, with a probe. `N 3 T H W` -> `N classes`."""

    def __init__(self, encoder: nn.Module, probe: LinearProbe | AttentiveProbe) -> None:
        super().__init__()
        self.encoder, self.probe = encoder.requires_grad_(False).eval(), probe

    def train(self, mode: bool = True) -> Probed:
        super().train(mode)
        self.encoder.eval()
        return self

    def forward(self, clip: Tensor) -> Tensor:
        return self.probe(self.encoder(clip))


def attach(network: nn.Module, variant: Variant, kind: ProbeKind, *, num_classes: int, clip: Clip) -> Probed:
    """Return a network that `build` made with a new probe in place of its classifier; it is changed.

    Raises UserError if there is no such kind of probe, or its features are not found.
    """
    if kind not in get_args(ProbeKind):
        raise unknown("probe", kind, get_args(ProbeKind))
    encoder, width = _encoder.encoder(network, variant, clip, tokens=kind == "attentive")
    probed = Probed(encoder, (AttentiveProbe if kind == "attentive" else LinearProbe)(width, num_classes))
    for name in ("variant_name", "layer_norm_eps"):
        if hasattr(network, name):
            setattr(probed, name, getattr(network, name))
    return probed


def kind_of(state: dict[str, Any]) -> ProbeKind | None:
    """Return the kind of probe in a state dict of a probed network, None if it is that of another."""
    if not all(key.startswith((ENCODER, PROBE)) for key in state) or f"{PROBE}linear.weight" not in state:
        return None
    return "attentive" if f"{PROBE}query" in state else "linear"
