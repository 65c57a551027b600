"""The names of Swin's parameters in the checkpoints of others: of videos, and of images in the form of Microsoft's.

Sources: open-mmlab/mmaction2 and mmpretrain, torchvision, timm, and transformers' `SwinModel`.
"""

from __future__ import annotations

import re

import torch

from ._naming import TRANSFORMERS, Naming, State, by_rules, join

BUFFERS = r"relative_position_index|attn_mask$"  # computed from the window alone

official = by_rules(drop=BUFFERS)
mmaction = by_rules((r"^(backbone\.)norm\d\.", r"\1norm."), drop=BUFFERS)  # the last norm has its stage's number


def torchvision_video(state: State) -> State:
    """Convert the names of torchvision's `swin3d_*`, whose stages and mergings alternate in one list."""
    return by_rules(
        *_alternating(state, first=0),
        (r"^(patch_embed|layers|norm)\.", r"backbone.\1."),
        (r"^head\.", "cls_head.fc_cls."),
        drop=BUFFERS,
    )(state)


def torchvision_image(state: State) -> State:
    """Convert the names of torchvision's `swin_t`, `swin_s` and `swin_b`."""
    return by_rules(
        (r"^features\.0\.0\.", "patch_embed.proj."),
        (r"^features\.0\.2\.", "patch_embed.norm."),
        *_alternating(state, first=1),
        drop=BUFFERS,
    )(state)


def _alternating(state: State, first: int) -> tuple[tuple[str, str], ...]:
    numbers = {int(found[1]) for key in state if (found := re.match(r"features\.(\d+)\.", key))}
    stages = ((n, divmod(n - first, 2)) for n in sorted(numbers) if n >= first)
    places = [
        (rf"^features\.{n}\.", f"layers.{stage}.downsample." if merging else f"layers.{stage}.blocks.")
        for n, (stage, merging) in stages
    ]
    return (*places, (r"\.mlp\.0\.", ".mlp.fc1."), (r"\.mlp\.3\.", ".mlp.fc2."))


def timm(state: State) -> State:
    """Convert the names of timm. Since 0.9, a merging is at the start of the next stage, not at the end of its own."""
    moved = any(".downsample." in key for key in state) and not any(k.startswith("layers.0.downsample.") for k in state)
    stages = {int(found[1]) for key in state if moved and (found := re.match(r"layers\.(\d+)\.downsample\.", key))}
    return by_rules(*((rf"^layers\.{n}\.downsample\.", f"layers.{n - 1}.downsample.") for n in sorted(stages)))(state)


def transformers(state: State) -> State:
    """Convert the names of transformers' `SwinModel`, those of version 5 in memory too."""
    return by_rules(
        (r"^swin\.", ""),
        (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
        (r"^embeddings\.norm\.", "patch_embed.norm."),
        (r"^encoder\.", ""),
        *TRANSFORMERS,
        (r"\.attention\.(self\.|relative_position_bias\.)?", ".attn."),
        (r"^classifier\.", "head."),
        drop=BUFFERS + r"|mask_token$",
    )(join(state))


def mmpretrain(state: State) -> State:
    """Convert the names of MMPretrain and MMDetection, whose merging orders the four neighbors column by column."""
    renamed = by_rules(
        (r"^backbone\.", ""),
        (r"^patch_embed\.projection\.", "patch_embed.proj."),
        (r"^stages\.", "layers."),
        (r"\.attn\.w_msa\.", ".attn."),
        (r"\.ffn\.layers\.0\.0\.", ".mlp.fc1."),
        (r"\.ffn\.layers\.1\.", ".mlp.fc2."),
        (r"^norm\d\.", "norm."),
        drop=BUFFERS,
    )(state)
    return {key: _rows_first(value) if ".downsample." in key else value for key, value in renamed.items()}


def _rows_first(value: torch.Tensor) -> torch.Tensor:
    """Reorder the last axis from the order of `nn.Unfold`, `C 4` with rows slow, to Microsoft's: `4 C`, rows fast."""
    return value.unflatten(-1, (-1, 2, 2)).movedim((-1, -2), (-3, -2)).flatten(-3)


OFFICIAL = {"the official release": Naming(convert=official)}
NAMINGS = {
    **OFFICIAL,
    "MMAction2": Naming(convert=mmaction),
    "torchvision": Naming(convert=torchvision_video),
}
IMAGE_NAMINGS = {
    "Microsoft": Naming(convert=official),
    "timm": Naming(convert=timm),
    "torchvision": Naming(convert=torchvision_image),
    "transformers": Naming(convert=transformers),
    "MMPretrain": Naming(convert=mmpretrain),
}
