"""The addresses of the zoo's full-size models: a suite names models, it never builds them."""

ZOO = (
    "dualformer/t", "dualformer/s", "dualformer/b", "dualformer/t_16f",
    "mvit/b_16x4", "mvit/b_16x4_maskfeat",
    "timesformer/b", "timesformer/b_space_only", "timesformer/b_joint",
    "tps/swin_t",
    "tsm/r50_8f", "tsm/r50_16f", "tsm/r101_8f", "tsm/r50_nl_dot_8f", "tsm/r50_nl_gauss_8f", "tsm/r50_nl_embedded_8f",
    "tsm/mobilenetv2_8f", "tsm/mobileone_s4_16f", "tsm/mobilenetv2_online",
    "video_swin/t", "video_swin/s", "video_swin/b", "video_swin/b_w16",
    "vivit/b", "vivit/b_joint", "vivit/b_divided",
)  # fmt: skip

FLAGSHIPS = ("tsm/r50_8f", "video_swin/t", "tps/swin_t", "dualformer/t", "timesformer/b", "vivit/b", "mvit/b_16x4")
"""One representative model per family, for suites that are too expensive for the whole zoo."""
