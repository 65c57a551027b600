"""The names of TimeSformer's and ViViT's parameters in the checkpoints of others.

Sources: github.com/mx-mark/VideoTransformer-pytorch, open-mmlab/mmaction2 (`TimeSformer`),
facebookresearch/TimeSformer, and `TimesformerForVideoClassification` of transformers.
"""

from __future__ import annotations

from ._naming import Naming, State, by_rules

# mmcv's attention and feed-forward modules, which VideoTransformer-pytorch and MMAction2 both build on. Older files
# have PyTorch's `attn.in_proj_weight` and `attn.out_proj`, newer ones `attn.qkv` and `attn.proj`, in the same layout.
MMCV = (
    (r"\.attn\.(in_proj_|qkv\.)", ".qkv."),
    (r"\.attn\.(out_proj|proj)\.", ".proj."),
    (r"\.ffns\.0\.norm\.", ".norm."),
    (r"\.ffns\.0\.layers\.0\.0\.", ".mlp.fc1."),
    (r"\.ffns\.0\.layers\.1\.", ".mlp.fc2."),
)

video_transformer = by_rules(
    (r"^model\.", ""),
    (r"^cls_head\.cls_head\.", "cls_head."),
    (r"^transformer_layers\.(0\.)?layers\.", "blocks."),
    (r"^transformer_layers\.1\.layers\.", "temporal_blocks."),
    *MMCV,
)
mmaction = by_rules(
    (r"^backbone\.", ""),
    (r"^cls_head\.fc_cls\.", "cls_head."),
    (r"^transformer_layers\.layers\.", "blocks."),
    (r"\.norms\.0\.", ".attentions.0.norm."),
    (r"\.norms\.1\.", ".norm."),
    *MMCV,
)


def facebook(state: State) -> State:
    """Convert the names of facebookresearch/TimeSformer. Without temporal attention they are also timm's ViT's."""
    space = f".attentions.{_space(state)}"
    return by_rules(
        (r"^model\.", ""),
        (r"^patch_embed\.proj\.", "patch_embed.projection."),
        (r"^head\.", "cls_head."),
        (r"\.temporal_norm1\.", ".attentions.0.norm."),
        (r"\.temporal_attn\.", ".attentions.0."),
        (r"^(blocks\.\d+)\.temporal_fc\.", r"\1.attentions.0.temporal_fc."),
        (r"\.norm1\.", f"{space}.norm."),
        (r"\.attn\.", f"{space}."),
        (r"\.norm2\.", ".norm."),
    )(state)


def transformers(state: State) -> State:
    """Convert the names of transformers' `TimesformerForVideoClassification`."""
    space = f".attentions.{_space(state)}"
    return by_rules(
        (r"^timesformer\.", ""),
        (r"^embeddings\.cls_token$", "cls_token"),
        (r"^embeddings\.position_embeddings$", "pos_embed"),
        (r"^embeddings\.time_embeddings$", "time_embed"),
        (r"^embeddings\.patch_embeddings\.", "patch_embed."),
        (r"^encoder\.layer\.", "blocks."),
        (r"\.temporal_layernorm\.", ".attentions.0.norm."),
        (r"\.temporal_attention\.attention\.", ".attentions.0."),
        (r"\.temporal_attention\.output\.dense\.", ".attentions.0.proj."),
        (r"\.temporal_dense\.", ".attentions.0.temporal_fc."),
        (r"\.layernorm_before\.", f"{space}.norm."),
        (r"\.attention\.attention\.", f"{space}."),
        (r"\.attention\.output\.dense\.", f"{space}.proj."),
        (r"\.layernorm_after\.", ".norm."),
        (r"\.intermediate\.dense\.", ".mlp.fc1."),
        (r"\.output\.dense\.", ".mlp.fc2."),
        (r"^layernorm\.", "norm."),
        (r"^classifier\.", "cls_head."),
    )(state)


def _space(state: State) -> int:
    """Return the index of spatial attention in a block: in divided attention, time comes first."""
    return int(any("temporal_" in key for key in state))


VIVIT = {"VideoTransformer-pytorch": Naming(convert=video_transformer)}
NAMINGS = {
    **VIVIT,
    "MMAction2": Naming(convert=mmaction, layer_norm_eps=1e-6),
    "facebookresearch/TimeSformer": Naming(convert=facebook, layer_norm_eps=1e-6),
    "transformers": Naming(convert=transformers, layer_norm_eps=1e-6),
}
