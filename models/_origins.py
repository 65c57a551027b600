"""What a checkpoint that does not fit seems to be, by its parameter names and by what its trainer wrote beside them."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from ._naming import State

# Names that one architecture alone has; the first that is found decides.
NETWORKS = (
    (r"\brel_pos_[htw]\b", "MViTv2 (with relative positions)"),
    (r"\bs\d\.pathway1_|\b(slow|fast)_path\.|\bmultipathway_", "SlowFast"),
    (r"\bconv_xy\b|\bconv1_s\.conv\b|\bstem\.conv_xy|\bconv\.conv_t\.weight", "X3D"),
    (r"\bConv3d_1a_7x7\b|\bMixed_3b\b", "Inception-I3D"),
    (r"\bs\d\.pathway0_", "a 3D ResNet of PySlowFast (Slow, I3D or C2D)"),
    (r"\bvideomae\.|\battn\.q_bias$", "VideoMAE, or another masked autoencoder"),
    (r"\blayer1\.0\.conv1\.0\.\d\.", "R(2+1)D"),
    (r"\bblocks?1\.0\.(pos_embed|dpe)\b", "UniFormer"),
    (r"\bconv5b\b", "C3D"),
    (r"\bblocks\.b\d_l\d\b", "MoViNet"),
    (r"\bmixer\.A_log\b", "VideoMamba"),
    (r"\btemporal_(attn|attention|fc|dense)\b", "TimeSformer with divided attention"),
    (r"\bpool_[qkv]\b|\battn\.norm_[qkv]\b|\bpos_embed_(spatial|temporal)\b", "MViT"),
    (r"\btransformer\.resblocks\.|\bvision_model\.", "CLIP"),
    (r"\bconv_dw\b|\bdwconv\b", "ConvNeXt"),
    (r"\brelative_position_bias_table\b", "Swin"),
    (r"\bblocks\.\d+\.attn\.qkv\b|\bencoder\.layers?\.\d+\.", "a vision transformer"),
    (r"\blayer\d\.\d+\.conv1\b", "a ResNet"),
)
VIDEO = ("Swin", "a ResNet", "a vision transformer")  # also names of 2D image networks
TOLD = ("arch", "model", "model_name", "model_type", "architectures", "shift", "shift_place", "dataset")
PLACES = ("args", "opts", "config", "cfg", "hyper_parameters", "meta")


def seems(state: State, facts: Mapping[str, Any]) -> str:
    """Return what the names and metadata of a checkpoint tell, as clauses of a message; empty if nothing."""
    found = []
    network = next((name for pattern, name in NETWORKS if any(re.search(pattern, key) for key in state)), None)
    if network is not None:
        image = network in VIDEO and not any(value.ndim == 5 for value in state.values())
        found.append(f"its names are those of {network}" + (" for images (--pretrained?)" if image else ""))
    told = dict(_told(facts))
    if told:
        found.append("its metadata says " + ", ".join(f"{name}={value}" for name, value in told.items()))
    return ", and ".join(found)


def _told(facts: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for place in (facts, *(facts.get(name) for name in PLACES)):
        if not isinstance(place, Mapping):
            continue
        for name in TOLD:
            value = place.get(name)
            value = value[0] if isinstance(value, list) and value else value
            if isinstance(value, (str, bool)) and len(str(value)) < 40:
                yield name, value


def depths(names: Collection[str], own: Collection[str]) -> str:
    """Return where a checkpoint, in the model's names, has other numbers of blocks than the model; empty if nowhere."""
    theirs, ours = _counts(names), _counts(own)
    other = [f"{theirs[k]} {k} in the file, {ours[k]} in the model" for k in ours if theirs.get(k, ours[k]) != ours[k]]
    return "; ".join(other[:3])


def _counts(names: Collection[str]) -> dict[str, int]:
    """Return the number of entries of each list of modules: `layers.2.blocks` -> 6."""
    highest: dict[str, int] = {}
    for name in names:
        for found in re.finditer(r"\.(\d+)(?=\.)", name):
            place = name[: found.start()]
            highest[place] = max(highest.get(place, 0), int(found[1]) + 1)
    return highest
