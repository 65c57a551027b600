"""Where official repositories publish checkpoints, configurations, training logs and the order of their classes.

Read in their READMEs at the commits named here. The order of Kinetics-400's classes is the same in all of them (names
sorted, from `abseiling` to `zumba`); that of Kinetics-600 is not.
"""

from __future__ import annotations

from typing import TypedDict

GITHUB = "https://github.com"
DRIVE = "https://drive.google.com/file/d/{}/view?usp=sharing"
MMACTION = f"{GITHUB}/open-mmlab/mmaction2/blob/4d6c93474730cad2f25e51109adcf96824efc7a3"
OPENMMLAB = "https://download.openmmlab.com/mmaction/v1.0/recognition/tsm"
SWIN = f"{GITHUB}/SwinTransformer/Video-Swin-Transformer/blob/db018fb8896251711791386bbd2127562fd8d6a6"
SWIN_STORAGE = f"{GITHUB}/SwinTransformer/storage/releases/download/v1.0.4"
DUALFORMER_CONFIGS = (
    f"{GITHUB}/sail-sg/dualformer/blob/058c10c6a07885b150a4c05b729230e243e81440/configs/recognition/dualformer"
)
VIDEO_TRANSFORMER = f"{GITHUB}/mx-mark/VideoTransformer-pytorch/blob/194cae69722eb5efad031c59f4ff03bc60633fa8"
TPS = "https://modelscope.cn/models/damo/cv_pathshift_action-recognition/summary"

LABELS = {
    "kinetics400": f"{MMACTION}/tools/data/kinetics/label_map_k400.txt",
    "kinetics600": f"{MMACTION}/tools/data/kinetics/label_map_k600.txt",
    **{name: f"{MMACTION}/tools/data/{name}/label_map.txt" for name in ("sthv2", "diving48", "hmdb51", "ucf101")},
}


class Release(TypedDict, total=False):
    """Addresses of what a repository publishes with a figure: fields of `Published`."""

    config: str
    checkpoint: str
    log: str
    labels: str


# MMAction2's configuration of a TSM, and the date and hash in its checkpoint's name.
TSM = {
    ("r50_8f", "kinetics400"): ("r50_8xb16-1x1x8-50e", "20220831-64d69186"),
    ("r50_8f", "sthv2"): ("r50_8xb16-1x1x8-50e", "20230317-be0fc26e"),
    ("r50_16f", "kinetics400"): ("r50_8xb16-1x1x16-50e", "20220831-042b1748"),
    ("r50_16f", "sthv2"): ("r50_8xb16-1x1x16-50e", "20230317-ec6696ad"),
    ("r101_8f", "sthv2"): ("r101_8xb16-1x1x8-50e", "20230320-efcc0d1b"),
    ("r50_nl_dot_8f", "kinetics400"): ("r50-nl-dot-product_8xb16-1x1x8-50e", "20220831-108bfde5"),
    ("r50_nl_gauss_8f", "kinetics400"): ("r50-nl-gaussian_8xb16-1x1x8-50e", "20220831-7e54dacf"),
    ("r50_nl_embedded_8f", "kinetics400"): ("r50-nl-embedded-gaussian_8xb16-1x1x8-50e", "20220831-35eddb57"),
    ("mobilenetv2_8f", "kinetics400"): ("mobilenetv2_8xb16-1x1x8-100e", "20230414-401127fd"),
    ("mobileone_s4_16f", "kinetics400"): ("mobileone-s4_8xb16-1x1x16-50e", "20230825-a7f8876b"),
}

# Video Swin's configurations by model, data set and pre-training: its checkpoints have their names.
VIDEO_SWIN = {
    ("t", "kinetics400", "ImageNet-1K"): "tiny_patch244_window877_kinetics400_1k",
    ("s", "kinetics400", "ImageNet-1K"): "small_patch244_window877_kinetics400_1k",
    ("b", "kinetics400", "ImageNet-1K"): "base_patch244_window877_kinetics400_1k",
    ("b", "kinetics400", "ImageNet-22K"): "base_patch244_window877_kinetics400_22k",
    ("b", "kinetics600", "ImageNet-22K"): "base_patch244_window877_kinetics600_22k",
    ("b_w16", "sthv2", "Kinetics-400 (ImageNet-22K)"): "base_patch244_window1677_sthv2",
}

# DualFormer's configuration, and its checkpoint's id on Google Drive. (Its README links the Tiny one for UCF101.)
DUALFORMER = {
    ("t", "kinetics400"): ("tiny_patch244_window877_kinetics400_1k", "1dvG6vjC7udHTwTaqmOAfn6U3HNs3T-QF"),
    ("s", "kinetics400"): ("small_patch244_window877_kinetics400_1k", "1dNHPnSl39Vbh7Z-KSWYjNV3PGFlWL3TY"),
    ("b", "kinetics400"): ("base_patch244_window877_kinetics400_1k", "1U_hxRWzh92ru2efgpiFH7a0e4LCc_3m8"),
    ("b", "kinetics600"): ("base_patch244_window877_kinetics600_22k", "1bp-Bl1MVtR9Fj405mLc129dVSK-PEvSy"),
    ("s", "diving48"): ("small_patch244_window877_diving48", "10KZbIOwBErijejv72AVJrxkngp9TU4sj"),
    ("s", "hmdb51"): ("small_patch244_window877_hmdb51", "1NS80zjexgQhw6UMH-bbXUsHI0ZlpPvsV"),
    ("s", "ucf101"): ("tiny_patch244_window877_ucf101", "1tEv2C51Z4pI2HSbb9fabsv-SIOItykDZ"),
}


def tsm(model: str, dataset: str) -> Release:
    """Return MMAction2's release of a TSM."""
    config, file = TSM[model, dataset]
    name = f"tsm_imagenet-pretrained-{config}_{dataset}-rgb"
    return {
        "config": f"{MMACTION}/configs/recognition/tsm/{name}.py",
        "checkpoint": f"{OPENMMLAB}/{name}/{name}_{file}.pth",
        "log": f"{OPENMMLAB}/{name}/{name}.log",
        "labels": LABELS[dataset],
    }


def video_swin(model: str, dataset: str, pretrain: str) -> Release:
    """Return a release of the Video Swin repository."""
    name = f"swin_{VIDEO_SWIN[model, dataset, pretrain]}"
    return {
        "config": f"{SWIN}/configs/recognition/swin/{name}.py",
        "checkpoint": f"{SWIN_STORAGE}/{name}.pth",
        "labels": LABELS[dataset],
    }


def dualformer(model: str, dataset: str) -> Release:
    """Return a release of the DualFormer repository."""
    config, drive = DUALFORMER[model, dataset]
    return {
        "config": f"{DUALFORMER_CONFIGS}/dualformer_{config}.py",
        "checkpoint": DRIVE.format(drive),
        "labels": LABELS[dataset],
    }


def video_transformer(dataset: str, drive: str, *, log: str | None = None) -> Release:
    """Return a release of VideoTransformer-pytorch, which has no configurations: its README gives the command."""
    release = Release(
        config=f"{VIDEO_TRANSFORMER}/README.md",
        checkpoint=DRIVE.format(drive),
        labels=f"{VIDEO_TRANSFORMER}/{dataset.replace('kinetics', 'k')}_classmap.json",
    )
    if log is not None:
        release["log"] = f"{VIDEO_TRANSFORMER}/demo/{log}"
    return release
