"""The names of TSM's parameters in the checkpoints of others, and those of the image networks that it starts from.

Sources: open-mmlab/mmaction2, mit-han-lab/temporal-shift-module; for images torchvision, MMPretrain, timm and
apple/ml-mobileone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

from ._conv import MobileNetV2
from ._naming import Naming, State, by_key, by_rules

# Modules that wrap a shifted convolution, or a block that a non-local one follows.
WRAPPED = ((r"\.net\.", "."), (r"\.block\.", "."), (r"non_local_block\.", "non_local."))
RESNET = (
    (r"downsample\.0\.", "downsample.conv."),
    (r"downsample\.1\.", "downsample.bn."),
    (r"\bconv(\d)\.(?!conv|bn)", r"conv\1.conv."),
    (r"\bbn(\d)\.", r"conv\1.bn."),
)
NON_LOCAL = (
    (r"\.nl\.(g|phi)\.0\.", r".non_local.\1."),
    (r"\.nl\.W\.0\.", ".non_local.conv_out.conv."),
    (r"\.nl\.W\.1\.", ".non_local.conv_out.bn."),
    (r"\.nl\.", ".non_local."),
)
CLASSIFIERS = r"^(fc|head|classifier|linear)\."

mmaction = by_rules(*WRAPPED, (r"\.(g|theta|phi)(\.0)?\.conv\.", r".\1."))


def mit_han_lab(state: State) -> State:
    """Convert the names of mit-han-lab's ResNet and MobileNetV2. Without dropout, `base_model` has the classifier."""
    inner = by_rules(*WRAPPED, (r"^base_model\.", ""), (r"^(new_fc|fc|classifier(\.\d)?)\.", "cls_head.fc_cls."))(state)
    return _fold_biases(_frames(inner))


def image(state: State) -> State:
    """Convert the names of torchvision's, timm's and MMPretrain's ResNet and torchvision's MobileNetV2."""
    return _frames(by_rules((r"^backbone\.", ""), drop=r"^(backbone\.)?(fc|head|classifier)\.")(state))


def _frames(state: State) -> State:
    """Convert the names of a ResNet or MobileNetV2 of torchvision's kind to those of our backbone."""
    if any(key.startswith("features.") for key in state):
        state = by_key(_mobilenet_key(state))(state)
    return by_rules(*NON_LOCAL, *RESNET, (r"^(conv\d|layer\d|stage\d)\.", r"backbone.\g<0>"))(state)


def _mobilenet_key(state: State) -> Callable[[str], str]:
    """Return the translation of a MobileNetV2's names: flat lists, or since torchvision 0.3 nested ones."""
    layers = [f"layer{i}.{j}" for i, (_, _, n, _) in enumerate(MobileNetV2.LAYERS, 1) for j in range(n)]
    nested = any(re.match(r"features\.\d+\.conv\.\d+\.\d+\.", key) for key in state)

    def translate(key: str) -> str:
        _, number, *rest = key.split(".")
        if not key.startswith("features."):
            return key
        if number in ("0", str(len(layers) + 1)):
            return f"conv{1 if number == '0' else 2}.{('conv', 'bn')[int(rest[0])]}.{rest[1]}"
        index, kind = _place(rest, last=2 if number != "1" else 1) if nested else divmod(int(rest[1]), 3)
        return f"{layers[int(number) - 1]}.conv.{index}.{('conv', 'bn')[kind]}.{rest[-1]}"

    return translate


def _place(rest: list[str], last: int) -> tuple[int, int]:
    """Return a nested name's convolution in its block, and whether it is its batch norm. The last one has no list."""
    return (int(rest[1]), int(rest[2])) if len(rest) == 4 else (last, int(rest[1]) - last)


def _fold_biases(state: State) -> State:
    """Fold the bias of a non-local block's last convolution into the mean that its batch norm subtracts."""
    folded = dict(state)
    for key in state:
        if key.endswith(".non_local.conv_out.conv.bias"):
            mean = key.replace(".conv.bias", ".bn.running_mean")
            folded[mean] = state[mean] - folded.pop(key)
    return folded


def timm_mobilenetv2(state: State) -> State:
    """Convert the names of timm's `mobilenetv2_100`."""
    return by_key(_timm_mobilenet_key)(by_rules(drop=CLASSIFIERS)(state))


def _timm_mobilenet_key(key: str) -> str:
    ends = {"conv_stem": "conv1.conv", "bn1": "conv1.bn", "conv_head": "conv2.conv", "bn2": "conv2.bn"}
    module, _, leaf = key.rpartition(".")
    if module in ends:
        return f"backbone.{ends[module]}.{leaf}"
    found = re.fullmatch(r"blocks\.(\d)\.(\d)\.(\w+)", module)
    if found is None:
        return key
    stage, block, name = int(found[1]), found[2], found[3]
    names = ("conv_dw", "bn1", "conv_pw", "bn2") if stage == 0 else TIMM_INVERTED
    index, kind = divmod(names.index(name), 2)
    return f"backbone.layer{stage + 1}.{block}.conv.{index}.{('conv', 'bn')[kind]}.{leaf}"


TIMM_INVERTED = ("conv_pw", "bn1", "conv_dw", "bn2", "conv_pwl", "bn3")

timm_mobileone = by_rules(
    (r"^stem\.", "backbone.stage0."),
    (r"^stages\.(\d)\.", lambda found: f"backbone.stage{int(found[1]) + 1}."),
    (r"\.conv_kxk\.", ".branch_conv_list."),
    (r"\.conv_scale\.", ".branch_scale."),
    (r"\.identity\.", ".branch_norm."),
    (r"\.bn\.", ".norm."),
    (r"\.(attn|se)\.fc(\d)\.", r".se.conv\2.conv."),
    (r"\.reparam_conv\.", ".branch_reparam."),
    drop=CLASSIFIERS,
)
apple_mobileone = by_rules(
    (r"^stage\d\.", r"backbone.\g<0>"),
    (r"\.rbr_conv\.", ".branch_conv_list."),
    (r"\.rbr_scale\.", ".branch_scale."),
    (r"\.rbr_skip\.", ".branch_norm."),
    (r"\.bn\.", ".norm."),
    (r"\.se\.reduce\.", ".se.conv1.conv."),
    (r"\.se\.expand\.", ".se.conv2.conv."),
    (r"\.reparam_conv\.", ".branch_reparam."),
    drop=CLASSIFIERS,
)


def objection(names: Collection[str], facts: Mapping[str, Any]) -> str | None:
    """Return what a checkpoint is if its shift is not that of this TSM, whose tensors it has all the same.

    In mit-han-lab's and MMAction2's names, `.net.` is the shift around a convolution.
    """
    told = facts.get("args", facts)
    block = isinstance(told, Mapping) and told.get("shift_place") == "block"
    if block or any(re.search(r"\blayer\d\.\d+\.(block\.)?net\.", n) for n in names):
        return "a TSM with shift_place=block, which also shifts what the residual connection carries"
    mit = any(name.startswith("base_model.") for name in names)
    mmaction = any(name in facts for name in ("meta", "message_hub"))
    if (mit or mmaction) and not any(".net." in name for name in names):
        return "a TSN without shift"
    blocks = {found[0] for n in names if mit and (found := re.search(r"\blayer\d\.\d+\.", n))}
    shifted = {found[0] for n in names if ".net." in n and (found := re.search(r"\blayer\d\.\d+\.", n))}
    if blocks - shifted:
        return f"a TSM that shifts in {len(shifted)} of {len(blocks)} blocks only"
    return None


NAMINGS = {
    "MMAction2": Naming(convert=mmaction),
    "mit-han-lab": Naming(convert=mit_han_lab),
}
IMAGE_NAMINGS = {
    "torchvision": Naming(convert=image),
    "timm's MobileNetV2": Naming(convert=timm_mobilenetv2),
    "timm's MobileOne": Naming(convert=timm_mobileone),
    "apple/ml-mobileone": Naming(convert=apple_mobileone),
}
