"""The names of MViT's parameters in the checkpoints of others.

Sources: github.com/mx-mark/VideoTransformer-pytorch and pytorchvideo, which it builds on; facebookresearch/SlowFast
(PySlowFast, `MViT` version 1), and torchvision's `mvit_v1_b`.
"""

from __future__ import annotations

from ._naming import Naming, State, by_rules, split

PYTORCHVIDEO = (
    (r"^cls_positional_encoding\.", ""),
    (r"^patch_embed\.patch_model\.", "patch_embed."),
    (r"^norm_embed\.", "norm."),
)

video_transformer = by_rules(
    (r"^maskfeat\.encoder\.", ""),  # a MaskFeat pre-training run of this package
    (r"^model\.(mvit\.)?", ""),
    (r"^cls_head\.cls_head\.", "cls_head."),
    *PYTORCHVIDEO,
)


def pytorchvideo(state: State) -> State:
    """Convert the names of pytorchvideo's `mvit_base_16x4`. Its pooling modules are registered twice."""
    renamed = by_rules(*PYTORCHVIDEO, (r"^head\.proj\.", "cls_head."), drop=r"\._attention_pool_[qkv]\.")(state)
    return split(renamed)


def slowfast(state: State) -> State:
    """Convert the names of PySlowFast."""
    renamed = by_rules((r"^patch_embed\.proj\.", "patch_embed."), (r"^head\.projection\.", "cls_head."))(state)
    return split(renamed)


def torchvision(state: State) -> State:
    """Convert the names of torchvision, whose position tables have no batch axis."""
    tables = ("class_token", "class_pos", "spatial_pos", "temporal_pos")
    shaped = {
        key: value.reshape(1, -1, value.shape[-1]) if key.endswith(tables) else value for key, value in state.items()
    }
    renamed = by_rules(
        (r"^conv_proj\.", "patch_embed."),
        (r"^pos_encoding\.class_token$", "cls_token"),
        (r"^pos_encoding\.class_pos$", "pos_embed_class"),
        (r"^pos_encoding\.(spatial|temporal)_pos$", r"pos_embed_\1"),
        (r"\.attn\.project\.0\.", ".attn.proj."),
        (r"\.pool_([qkv])\.pool\.", r".pool_\1."),
        (r"\.pool_([qkv])\.norm_act\.0\.", r".norm_\1."),
        (r"\.mlp\.0\.", ".mlp.fc1."),
        (r"\.mlp\.3\.", ".mlp.fc2."),
        (r"\.project\.", ".proj."),
        (r"^head\.1\.", "cls_head."),
    )(shaped)
    return split(renamed)


NAMINGS = {
    "VideoTransformer-pytorch": Naming(convert=video_transformer),
    "PyTorchVideo": Naming(convert=pytorchvideo, layer_norm_eps=1e-6),
    "PySlowFast": Naming(convert=slowfast, layer_norm_eps=1e-6),
    "torchvision": Naming(convert=torchvision, layer_norm_eps=1e-6),
}
