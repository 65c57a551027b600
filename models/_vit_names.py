"""The names of image transformers' parameters, converted to those of a TimeSformer without temporal attention.

Sources: timm with DeiT, DeiT-III, DINO and MAE; MMPretrain; torchvision; transformers (ViT, DeiT, CLIP); OpenAI's
CLIP; and google-research/vision_transformer (JAX, `.npz`).
"""

from __future__ import annotations

import math
import re

import torch
from torch import Tensor

from ._naming import TRANSFORMERS, Naming, State, by_rules, join

# Parts of image checkpoints that video encoders lack: classifiers and the decoder of masked pre-training.
CLASSIFIERS = r"^(head|heads|head_dist|classifier|cls_classifier|distillation_classifier|pooler|pre_logits)\."
UNUSED = CLASSIFIERS + r"|^mask_token$|^decoder|^encoder_to_decoder\."
BLOCK = (
    (r"^patch_embed\.proj\.", "patch_embed.projection."),
    (r"\.norm1\.", ".attentions.0.norm."),
    (r"\.norm2\.", ".norm."),
    (r"\.attn\.(qkv\.|in_proj_)", ".attentions.0.qkv."),
    (r"\.attn\.(out_proj|proj)\.", ".attentions.0.proj."),
)


def timm(state: State) -> State:
    """Convert the names of timm, which are also those of DeiT, DeiT-III, DINO and MAE."""
    pooled = "fc_norm.weight" in state and "norm.weight" not in state  # fine-tuned on the mean of the patches
    rules = ((r"^encoder\.", ""), (r"^fc_norm\.", "norm." if pooled else "fc_norm."), *BLOCK)
    return _plain(by_rules(*rules, drop=UNUSED)(_join_biases(state)))


mmpretrain = by_rules(
    (r"^backbone\.", ""),
    (r"^transformer_layers\.layers\.", "blocks."),
    (r"^layers\.", "blocks."),
    (r"\.(norms\.0|ln1)\.", ".norm1."),
    (r"\.(norms\.1|ln2)\.", ".norm2."),
    (r"\.attentions\.0\.attn\.", ".attn."),
    (r"\.ffns?(\.0)?\.layers\.0\.0\.", ".mlp.fc1."),
    (r"\.ffns?(\.0)?\.layers\.1\.", ".mlp.fc2."),
    (r"^ln1\.", "norm."),
    *BLOCK,
    drop=UNUSED,
)
torchvision = by_rules(
    (r"^class_token$", "cls_token"),
    (r"^conv_proj\.", "patch_embed.projection."),
    (r"^(encoder\.)?pos_embedding$", "pos_embed"),
    (r"^(encoder\.)?layers\.encoder_layer_", "blocks."),
    (r"^(encoder\.)?ln\.", "norm."),
    (r"\.ln_1\.", ".norm1."),
    (r"\.ln_2\.", ".norm2."),
    (r"\.self_attention\.", ".attn."),
    (r"\.mlp\.(0|linear_1)\.", ".mlp.fc1."),
    (r"\.mlp\.(3|linear_2)\.", ".mlp.fc2."),
    *BLOCK,
    drop=UNUSED,
)


def transformers(state: State) -> State:
    """Convert the names of transformers' ViT, DeiT, DINOv2 and MAE, those of version 5 in memory too."""
    renamed = by_rules(
        (r"^(vit|deit|dinov2)\.", ""),
        (r"^embeddings\.cls_token$", "cls_token"),
        (r"^embeddings\.distillation_token$", "dist_token"),
        (r"^embeddings\.position_embeddings$", "pos_embed"),
        (r"^embeddings\.patch_embeddings\.", "patch_embed."),
        (r"^(encoder\.)?layers?\.(?=\d)", "blocks."),
        *TRANSFORMERS,
        (r"\.attention\.(attention\.)?", ".attn."),
        *BLOCK,
        drop=UNUSED + r"|embeddings\.mask_token$|^\w+\.pooler\.",
    )
    return _plain(renamed(join(state)))


def clip_transformers(state: State) -> State:
    """Convert the image tower of transformers' CLIP, without the norm before its first block: see `_plain`."""
    renamed = by_rules(
        (r"^vision_model\.", ""),
        (r"^embeddings\.class_embedding$", "cls_token"),
        (r"^embeddings\.position_embedding\.weight$", "pos_embed"),
        (r"^embeddings\.patch_embedding\.", "patch_embed.projection."),
        (r"^encoder\.layers\.", "blocks."),
        (r"\.self_attn\.", ".attn."),
        (r"\.layer_norm(\d)\.", r".norm\1."),
        (r"^pre_layrnorm\.", "norm_pre."),
        (r"^post_layernorm\.", "norm."),
        *BLOCK,
        drop=r"position_ids$|^text_model\.|^text_projection|^visual_projection|^logit_scale",
    )
    return _plain(renamed(join(state)))


def clip_openai(state: State) -> State:
    """Convert the image tower of OpenAI's CLIP and of OpenCLIP, without the norm before its first block."""
    renamed = by_rules(
        (r"^visual\.", ""),
        (r"^class_embedding$", "cls_token"),
        (r"^positional_embedding$", "pos_embed"),
        (r"^conv1\.", "patch_embed.projection."),
        (r"^transformer\.resblocks\.", "blocks."),
        (r"\.ln_(\d)\.", r".norm\1."),
        (r"\.mlp\.c_fc\.", ".mlp.fc1."),
        (r"\.mlp\.c_proj\.", ".mlp.fc2."),
        (r"^ln_pre\.", "norm_pre."),
        (r"^ln_post\.", "norm."),
        *BLOCK,
        drop=r"^(visual\.)?proj$",
    )
    # The text tower has the same names, without `visual.`.
    tower = {key: value for key, value in state.items() if key.startswith("visual.")}
    return _plain(renamed(tower or state))


def jax(state: State) -> State:
    """Convert the names and layouts of google-research/vision_transformer: kernels are input-major, heads an axis."""
    renamed = by_rules(
        (r"\.(kernel|scale)$", ".weight"),
        (r"^cls$", "cls_token"),
        (r"^embedding\.", "patch_embed.projection."),
        (r"^Transformer\.posembed_input\.pos_embedding$", "pos_embed"),
        (r"^Transformer\.encoder_norm\.", "norm."),
        (r"^Transformer\.encoderblock_", "blocks."),
        (r"\.LayerNorm_0\.", ".norm1."),
        (r"\.LayerNorm_2\.", ".norm2."),
        (r"\.MultiHeadDotProductAttention_1\.out\.", ".attn.proj."),
        (r"\.MultiHeadDotProductAttention_1\.", ".attn."),
        (r"\.MlpBlock_3\.Dense_0\.", ".mlp.fc1."),
        (r"\.MlpBlock_3\.Dense_1\.", ".mlp.fc2."),
        *BLOCK,
        drop=CLASSIFIERS,
    )
    flat = {key.replace("/", "."): _jax_layout(key, value) for key, value in state.items()}
    return renamed(join(flat))


def _jax_layout(key: str, value: Tensor) -> Tensor:
    if key.endswith(("query/kernel", "key/kernel", "value/kernel")):
        return value.flatten(1).t()  # D heads d
    if key.endswith("out/kernel"):
        return value.flatten(0, 1).t()  # heads d D
    if key.endswith(("query/bias", "key/bias", "value/bias")):
        return value.flatten()
    if key == "embedding/kernel":
        return value.permute(3, 2, 0, 1)  # H W 3 D
    return value.t() if key.endswith("kernel") else value


def _join_biases(state: State) -> State:
    """Concatenate separate q and v biases into a qkv bias, with zeros for the keys, which have none."""
    joined = {key: value for key, value in state.items() if not key.endswith((".q_bias", ".v_bias"))}
    for key, q in state.items():
        v = state.get(key.replace(".q_bias", ".v_bias"))
        if key.endswith(".q_bias") and v is not None:
            joined[key.replace(".q_bias", ".qkv.bias")] = torch.cat((q, torch.zeros_like(q), v))
    return joined


def _plain(state: State) -> State:
    """Return the state dict of the plain transformer that is nearest, from one with the parts of later designs.

    Layer scales (DeiT-III, DINOv2) are multiplied into the linear layers before them, exactly; a class token without a
    position gets one of zero. A distillation token (DeiT) is dropped with its position, the second; so is the norm
    before the first block (CLIP), which no weights of a plain transformer can express.
    """
    dropped = ("dist_token", "norm_pre.weight", "norm_pre.bias")
    plain = {key: value for key, value in _scaled(state).items() if key not in dropped}
    if "patch_embed.projection.bias" not in plain and "norm_pre.weight" in state:
        plain["patch_embed.projection.bias"] = torch.zeros_like(plain["norm.bias"])
    if "cls_token" not in plain or "pos_embed" not in plain:
        return plain
    width = plain["cls_token"].shape[-1]
    positions = plain["pos_embed"].reshape(1, -1, width)
    if "dist_token" in state:
        positions = torch.cat((positions[:, :1], positions[:, 2:]), dim=1)
    elif math.isqrt(positions.shape[1]) ** 2 == positions.shape[1]:
        positions = torch.cat((torch.zeros_like(positions[:, :1]), positions), dim=1)
    return {**plain, "cls_token": plain["cls_token"].reshape(1, 1, width), "pos_embed": positions}


def _scaled(state: State) -> State:
    scaled = dict(state)
    for key in state:
        found = re.fullmatch(r"(blocks\.\d+\.)(ls|gamma_|layer_scale)([12])(\.gamma|\.lambda1|)", key)
        if found is None:
            continue
        layer = found[1] + ("attentions.0.proj" if found[3] == "1" else "mlp.fc2")
        gamma = scaled.pop(key)
        scaled[f"{layer}.weight"] = gamma[:, None] * state[f"{layer}.weight"]
        scaled[f"{layer}.bias"] = gamma * state[f"{layer}.bias"]
    return scaled


# What `_plain` drops, by its names in each of these: DeiT's distillation, and the norm before CLIP's first block.
LOST = r"^(dist_token$|norm_pre\.|\w*\.?embeddings\.distillation_token$|\w*\.?pre_layrnorm\.|\w*\.?ln_pre\.)"
IMAGE_NAMINGS = {
    "timm": Naming(convert=timm, lost=LOST),
    "MMPretrain": Naming(convert=mmpretrain),
    "torchvision": Naming(convert=torchvision),
    "transformers": Naming(convert=transformers, lost=LOST),
    "CLIP of transformers": Naming(convert=clip_transformers, lost=LOST),
    "CLIP of OpenAI": Naming(convert=clip_openai, lost=LOST),
    "JAX": Naming(convert=jax),
}
