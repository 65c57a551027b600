"""Inflate a 2D image transformer's weights to TimeSformer's or ViViT's state dict.

The image's parameters have the names of a TimeSformer without temporal attention: see `_vit_names`.
Reference: weight_init.py of github.com/mx-mark/VideoTransformer-pytorch. Not followed: its `set_zero` of divided
attention zeroes the spatial attention instead of the temporal, and its MAE reader loses the attention weights.
"""

from __future__ import annotations

import re

import torch
from torch import nn

from . import _positions
from ._naming import State


def inflate(model: nn.Module, state: State) -> State:
    """Return a model's state dict, without the classifier, from that of an image transformer.

    The model's `copy_strategy` initializes its temporal attention (divided) or temporal encoder (factorized): `repeat`
    copies the spatial weights, `set_zero` sets them to zero, an identity block. `extend_strategy` inflates the patch
    filter to tubelets: `temporal_avg` averages over all frames, `center_frame` uses frame `tubelet // 2` alone. Time
    embeddings and `temporal_fc` keep the model's own initialization; with a MAE encoder, which has sine positions and
    no class token, so do position embedding and class token. Positions of another grid are interpolated.
    """
    own = model.state_dict()
    fresh = [key for key in own if key == "time_embed" or ".temporal_fc." in key]
    if "cls_token" not in state and "pos_embed" not in state:
        fresh += ["cls_token", "pos_embed"]
    image = _positions.fit(model, state)
    _extend_patches(model, image)
    return {key: own[key] for key in fresh} | image | _copies(model, image)


def _extend_patches(model: nn.Module, image: State) -> None:
    tubelet = int(model.patch_embed.tubelet)  # type: ignore[union-attr, arg-type]
    weight = image.get("patch_embed.projection.weight")
    if tubelet == 1 or weight is None:
        return
    taps = weight.new_full((tubelet, 1, 1), 1 / tubelet)
    if model.extend_strategy == "center_frame":
        taps = torch.zeros_like(taps)
        taps[tubelet // 2] = 1
    image["patch_embed.projection.weight"] = weight[:, :, None] * taps


def _copies(model: nn.Module, image: State) -> State:
    """Return the temporal layers, and for divided attention the spatial attention under its index 1."""
    repeat = model.copy_strategy == "repeat"
    copies = {}
    for key, value in image.items():
        new = value.clone() if repeat else torch.zeros_like(value)
        block = re.match(r"blocks\.(\d+)\.", key)
        if model.attention == "divided" and ".attentions.0." in key:
            copies[key] = new
            copies[key.replace(".attentions.0.", ".attentions.1.")] = value
        elif model.attention == "factorized" and block and int(block[1]) < len(model.temporal_blocks):  # type: ignore[arg-type]
            copies["temporal_" + key] = new
    return copies
