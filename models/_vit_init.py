"""Inflate a 2D image checkpoint to TimeSformer's or ViViT's state dict.

Three namings are read: the reference's own (`transformer_layers.layers.0.norms.0`, mmcls style), timm's
(`blocks.0.norm1`; augreg, DeiT, MAE) and the MAE encoder's (`encoder.blocks.0.attn.q_bias`).
Reference: weight_init.py of github.com/mx-mark/VideoTransformer-pytorch. Not followed: its `set_zero` of divided
attention zeroes the spatial attention instead of the temporal, and its MAE reader loses the attention weights.
"""

from __future__ import annotations

import re

import torch
from torch import Tensor, nn

State = dict[str, Tensor]

# Parts of image checkpoints that video encoders lack: classifiers and the decoder of masked pre-training.
DROPPED = ("head.", "pre_logits.", "mask_token", "decoder", "encoder_to_decoder.")
RENAMES = (
    (r"^encoder\.", ""),
    (r"^patch_embed\.proj\.", "patch_embed.projection."),
    (r"^transformer_layers\.layers\.", "blocks."),
    (r"\.(norms\.0|norm1)\.", ".attentions.0.norm."),
    (r"\.(norms\.1|norm2)\.", ".norm."),
    (r"(\.attentions\.0)?\.attn\.(in_proj_|qkv\.)", ".attentions.0.qkv."),
    (r"(\.attentions\.0)?\.attn\.(out_proj|proj)\.", ".attentions.0.proj."),
    (r"\.ffns\.0\.layers\.0\.0\.", ".mlp.fc1."),
    (r"\.ffns\.0\.layers\.1\.", ".mlp.fc2."),
)


def inflate(model: nn.Module, state: State) -> State:
    """Return a model's state dict, without the classifier, from that of an image transformer.

    The model's `copy_strategy` initializes its temporal attention (divided) or temporal encoder (factorized): `repeat`
    copies the spatial weights, `set_zero` sets them to zero, an identity block. `extend_strategy` inflates the patch
    filter to tubelets: `temporal_avg` averages over all frames, `center_frame` uses frame `tubelet // 2` alone. Time
    embeddings and `temporal_fc` keep the model's own initialization; with a MAE encoder, which has sine positions and
    no class token, so do position embedding and class token. Position embeddings are not resized.
    """
    own = model.state_dict()
    fresh = [key for key in own if key == "time_embed" or ".temporal_fc." in key]
    if any(key.startswith("encoder.") for key in state):
        fresh += ["cls_token", "pos_embed"]
    image = _rename(_join_biases(state))
    _extend_patches(model, image)
    return {key: own[key] for key in fresh} | image | _copies(model, image)


def _rename(state: State) -> State:
    renamed = {}
    for key, value in state.items():
        if key.startswith(DROPPED):
            continue
        for pattern, replacement in RENAMES:
            key = re.sub(pattern, replacement, key)
        renamed[key] = value
    return renamed


def _join_biases(state: State) -> State:
    """Concatenate separate q and v biases into a qkv bias, with zeros for the keys, which have none."""
    joined = {key: value for key, value in state.items() if not key.endswith((".q_bias", ".v_bias"))}
    for key, q in state.items():
        v = state.get(key.replace(".q_bias", ".v_bias"))
        if key.endswith(".q_bias") and v is not None:
            joined[key.replace(".q_bias", ".qkv.bias")] = torch.cat((q, torch.zeros_like(q), v))
    return joined


def _extend_patches(model: nn.Module, image: State) -> None:
    tubelet = int(model.patch_embed.tubelet)  # type: ignore[union-attr, arg-type]
    weight = image.get("patch_embed.projection.weight")
    if tubelet == 1 or weight is None:
        return
    taps = torch.full((tubelet, 1, 1), 1 / tubelet, dtype=weight.dtype)
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
