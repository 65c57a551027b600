"""TimeSformer, ViViT and MViT: initialisation from images, both namings of released files, what each attention sees."""

import pytest
import torch
import torch.nn.functional as F
from reelbench import models
from reelbench.errors import UserError
from reelbench.models import _timesformer_names, _vit, _vit_names, timesformer
from reelbench.models.mvit import MViT, Pool
from reelbench.models.timesformer import TimeSformer
from reelbench.models.vivit import ViViT
from reelbench.tests import golden_models as goldens

INFLATE = goldens.read("inflate_vit.json")
SMALL = {"size": 32, "patch": 16, "dim": 16, "depth": 2, "heads": 2, "drop_path": 0.0, "num_classes": 5}


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def small_timesformer(**options) -> TimeSformer:
    return TimeSformer(**{**SMALL, "frames": 4, **options}).eval()


def small_vivit(**options) -> ViViT:
    return ViViT(**{**SMALL, "frames": 4, "temporal_depth": 1, **options}).eval()


def randomise(model: torch.nn.Module) -> torch.nn.Module:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return model


# --- from an image -------------------------------------------------------------------------------------------------


@pytest.mark.slow  # builds and fills models of full size
@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, marks=[pytest.mark.exhaustive] if number % 3 else [], id=case["name"])
        for number, case in enumerate(INFLATE["cases"])
    ],
)
def test_an_image_checkpoint_becomes_what_the_official_code_makes_of_it(case):
    image = {key: goldens.fill(key, tuple(shape)) for key, shape in INFLATE["sources"][case["source"]]}
    model = models.build(case["model"], num_classes=INFLATE["num_classes"], pretrained=image, **case["options"])
    state = model.state_dict()
    for key in _not_loaded(model, case):
        official = {"cls_head.weight": "cls_head.cls_head.weight", "cls_head.bias": "cls_head.cls_head.bias"}.get(key)
        official = official or "model." + key.replace("blocks.", "transformer_layers.layers.")
        state[key].copy_(goldens.fill(official, tuple(state[key].shape)))
    for key, expected in case["tensors"].items():
        (name,) = _timesformer_names.video_transformer({key: torch.empty(0)})
        tensor = state[name]
        torch.testing.assert_close(tensor.flatten()[:8], torch.tensor(expected["head"]), rtol=1e-4, atol=1e-6)
        assert tensor.double().std().item() == pytest.approx(expected["std"], rel=1e-3)
    with torch.inference_mode():
        assert goldens.difference(model.eval()(goldens.clip(case)), case["logits"]) < INFLATE["tolerance"]


def _not_loaded(model, case):
    fresh = ["cls_head.weight", "cls_head.bias"]
    fresh += ["time_embed"] if hasattr(model, "time_embed") else []
    fresh += ["cls_token", "pos_embed"] if case["source"] == "mae" else []
    if case["temporal_fc"] == "filled":
        fresh += [key for key in model.state_dict() if "temporal_fc" in key]
    return fresh


def _image(naming: str) -> dict[str, torch.Tensor]:
    """Return a small image transformer's checkpoint, the same weights in either naming."""
    source = randomise(small_timesformer(attention="space")).state_dict()
    renames = {
        "mmcls": (
            ("blocks.", "transformer_layers.layers."), (".attentions.0.norm.", ".norms.0."),
            (".attentions.0.qkv.", ".attentions.0.attn.in_proj_"),
            (".attentions.0.proj.", ".attentions.0.attn.out_proj."),
            (".mlp.fc1.", ".ffns.0.layers.0.0."), (".mlp.fc2.", ".ffns.0.layers.1."),
        ),
        "timm": (
            (".attentions.0.norm.", ".norm1."), (".attentions.0.qkv.", ".attn.qkv."),
            (".attentions.0.proj.", ".attn.proj."),
            ("patch_embed.projection.", "patch_embed.proj."), ("cls_head.", "head."),
        ),
    }[naming]  # fmt: skip
    block_norm = {"mmcls": ".norms.1.", "timm": ".norm2."}[naming]
    image = {}
    for key, value in source.items():
        if naming == "mmcls" and key.startswith("cls_head."):
            continue
        name = key if ".attentions." in key else key.replace(".norm.", block_norm)
        for old, new in renames:
            name = name.replace(old, new)
        image[name] = value
    return image


@pytest.mark.parametrize("build", [small_timesformer, small_vivit])
def test_both_namings_of_an_image_checkpoint_give_the_same_model(build):
    torch.manual_seed(1)
    mmcls, timm = _image("mmcls"), (torch.manual_seed(1), _image("timm"))[1]
    model = build()
    inflate = models.find("timesformer/b").inflate
    one, other = inflate(model, _vit_names.mmpretrain(mmcls)), inflate(model, _vit_names.timm(timm))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[key], other[key]) for key in one)
    assert {key for key in model.state_dict() if key not in one} == {"cls_head.weight", "cls_head.bias"}


@pytest.mark.parametrize("strategy", ["repeat", "set_zero"])
def test_divided_attention_takes_space_from_the_image_and_time_by_strategy(strategy):
    image = _image("timm")
    state = models.find("timesformer/b").inflate(small_timesformer(copy_strategy=strategy), _vit_names.timm(image))
    weight = image["blocks.1.attn.qkv.weight"]
    assert torch.equal(state["blocks.1.attentions.1.qkv.weight"], weight)
    expected = weight if strategy == "repeat" else torch.zeros_like(weight)
    assert torch.equal(state["blocks.1.attentions.0.qkv.weight"], expected)


@pytest.mark.parametrize(("strategy", "taps"), [("temporal_avg", (0.25,) * 4), ("center_frame", (0.0, 0.0, 1.0, 0.0))])
def test_patch_filters_are_extended_along_the_tubelet(strategy, taps):
    image = _image("timm")
    model = small_vivit(tubelet=4, frames=8, extend_strategy=strategy)
    state = models.find("vivit/b").inflate(model, _vit_names.timm(image))
    weight = image["patch_embed.proj.weight"]
    for frame, tap in enumerate(taps):
        torch.testing.assert_close(state["patch_embed.projection.weight"][:, :, frame], weight * tap)


def test_an_image_checkpoint_of_another_width_is_refused():
    image = {key: value[..., :8] for key, value in _image("timm").items()}
    with pytest.raises(UserError, match="mis-shaped"):
        models.build("timesformer/micro", pretrained=image)


# --- from a video --------------------------------------------------------------------------------------------------


def _official(state: dict[str, torch.Tensor], era: str) -> dict[str, torch.Tensor]:
    """Return our state dict in an official release's naming."""
    attention = {"released": (".attn.in_proj_", ".attn.out_proj."), "current": (".attn.qkv.", ".attn.proj.")}[era]
    official = {}
    for key, value in state.items():
        if ".attentions." not in key:
            key = key.replace(".norm.", ".ffns.0.norm.")
        key = key.replace(".qkv.", attention[0]).replace(".proj.", attention[1])
        key = key.replace(".mlp.fc1.", ".ffns.0.layers.0.0.").replace(".mlp.fc2.", ".ffns.0.layers.1.")
        spatial = (
            "transformer_layers.0.layers." if "temporal_blocks.0.norm.weight" in state else "transformer_layers.layers."
        )
        if key.startswith("temporal_blocks."):
            key = key.replace("temporal_blocks.", "transformer_layers.1.layers.")
        else:
            key = key.replace("blocks.", spatial)
        official["cls_head." + key if key.startswith("cls_head.") else "model." + key] = value
    return official


@pytest.mark.parametrize("name", ["timesformer/micro", "vivit/micro"])
@pytest.mark.parametrize("era", ["released", "current"])
@pytest.mark.parametrize("container", ["flat", "lightning"])
def test_both_eras_of_official_names_load(name, era, container):
    source = randomise(models.build(name, num_classes=5)).eval()
    file = _official(source.state_dict(), era)
    model = models.build(
        name, num_classes=5, checkpoint={"state_dict": file, "epoch": 3} if container == "lightning" else file
    )
    for key, value in model.state_dict().items():
        assert torch.equal(value, source.state_dict()[key]), key


def test_official_names_of_goldens_cover_every_parameter():
    for name in ("timesformer_b_k400.json", "timesformer_b_k600_released_names.json", "vivit_b_k400.json"):
        golden = goldens.read(name)
        with torch.device("meta"):
            own = models.build(golden["model"], num_classes=golden["num_classes"]).state_dict()
        official = {key: torch.empty(shape, device="meta") for key, shape in golden["state_dict"]}
        converted = _timesformer_names.video_transformer(official)
        assert {key: value.shape for key, value in converted.items()} == {
            key: value.shape for key, value in own.items()
        }


# --- what each attention sees --------------------------------------------------------------------------------------


def test_space_attention_forgets_the_order_and_takes_any_number_of_frames():
    model = randomise(small_timesformer(attention="space"))
    clip = torch.randn(2, 3, 6, 32, 32)
    torch.testing.assert_close(model(clip), model(clip.flip(2)), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(model(clip), model(torch.cat((clip, clip), dim=2)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("attention", ["divided", "joint"])
def test_time_is_seen_by_the_other_attentions(attention):
    model = randomise(small_timesformer(attention=attention))
    clip = torch.randn(2, 3, 4, 32, 32)
    assert (model(clip) - model(clip.flip(2))).abs().max() > 1e-3


def test_time_attention_stays_at_one_place_and_space_attention_at_one_time():
    x = torch.randn(1, 1 + 4 * 3, 16)  # 4 places, 3 frames: token 1 + 3 p + t
    changed = x.clone()
    changed[:, 1 + 3 * 2 + 1] = torch.randn(16)  # place 2, frame 1
    for kind, reached in ((_vit.TimeAttention, {7, 8, 9}), (_vit.SpaceAttention, {0, 2, 5, 8, 11})):
        attention = randomise(kind(16, 2, 0.0)).eval()
        moved = (attention(changed, 3) - attention(x, 3)).abs().amax(dim=-1)[0] > 1e-6
        assert set(moved.nonzero().flatten().tolist()) == reached


def test_a_divided_model_starts_as_an_image_model():
    model = small_timesformer()
    for block in model.blocks:
        x = torch.randn(2, 1 + 4 * 4, 16)
        assert torch.equal(block.attentions[0](x, 4), x)


def test_a_dropped_time_path_keeps_the_bias_that_follows_it():
    attention = randomise(_vit.TimeAttention(16, 2, 1 - 1e-6)).train()
    x = torch.randn(1, 1 + 4 * 3, 16)
    with torch.no_grad():
        torch.testing.assert_close(attention(x, 3)[:, 1:] - x[:, 1:], attention.temporal_fc.bias.expand(1, 12, 16))


def test_every_clip_of_a_batch_keeps_its_own_class_token():
    model = randomise(small_vivit())
    clips = torch.randn(3, 3, 4, 32, 32)
    for i in range(3):
        torch.testing.assert_close(model(clips)[i], model(clips[i : i + 1])[0], rtol=1e-4, atol=1e-5)


@pytest.mark.exhaustive
@pytest.mark.slow  # clips through a model of full size
def test_a_batch_of_vivit_equals_the_official_single_clips():
    golden = goldens.read("vivit_batch.json")
    model = models.build("vivit/b", checkpoint=goldens.filled(goldens.read(golden["derived_from"]))).eval()
    first = goldens.clip({"input": {"shape": [1, 3, 16, 224, 224]}})
    second = torch.from_numpy(goldens.np.random.RandomState(1).standard_normal((1, 3, 16, 224, 224))).float()
    with torch.inference_mode():
        logits = model(torch.cat((first, second)))
    for i in range(2):
        assert goldens.difference(logits[i, :32], golden["single"][i]) < 1e-4


@pytest.mark.slow  # a clip through a model of full size
def test_the_attention_map_is_the_official_one():
    golden = goldens.read("timesformer_attention_map.json")
    source = goldens.read(golden["derived_from"])
    model = models.build("timesformer/b", checkpoint=goldens.filled(source)).eval()
    with torch.inference_mode():
        weights = model.attention_map(goldens.clip(source))
    assert list(weights.shape) == golden["attention"]["shape"]
    row = weights[0, 0, 0, 1:]
    torch.testing.assert_close(row, torch.tensor(golden["cls_row_frame0_head0"]), rtol=1e-4, atol=1e-6)
    kept = timesformer.attended(weights[:, :, 0, 1:], golden["threshold"])
    assert kept[0, 0].nonzero().flatten().tolist() == golden["kept_indices_frame0_head0"]
    for frame, counts in golden["kept_patches_per_head"].items():
        assert kept[int(frame.removeprefix("frame"))].sum(dim=-1).tolist() == counts


def test_positions_are_resized_to_the_frame_and_rows_stay_rows():
    model = small_timesformer(size=64)
    with torch.no_grad():
        model.pos_embed[:, 1:] = torch.arange(4.0).repeat_interleave(4)[None, :, None]  # grows downwards
    table = model.positions(96, 64)[0, 1:, 0].unflatten(0, (6, 4))
    assert (table.diff(dim=0) > 0).all()
    torch.testing.assert_close(table[:, 0], table[:, 3])
    assert model(torch.randn(1, 3, 4, 96, 64)).shape == (1, 5)


# --- MViT ----------------------------------------------------------------------------------------------------------


def test_the_two_layouts_differ_in_the_last_pooling():
    with torch.device("meta"):
        original, maskfeat = models.build("mvit/b_16x4"), models.build("mvit/b_16x4_maskfeat")
    assert (original.output_grid, maskfeat.output_grid) == ((8, 7, 7), (8, 14, 14))
    # 36,310,858 without a classifier, of which the unused decoder and mask token are 7,786.
    assert sum(p.numel() for p in original.parameters()) == 36_310_858 + 769 * 400
    strides = [block.attn.pool_k.stride[1] for block in original.blocks]
    assert strides == [8, 4, 4, *[2] * 11, 1, 1]


def test_pooling_treats_heads_alike_and_leaves_the_class_token():
    pool = Pool(head_dim=4, stride=2)
    x = torch.randn(2, 1 + 2 * 6 * 6, 3 * 4)
    pooled = pool(x, (2, 6, 6))
    assert torch.equal(pooled[:, 0], x[:, 0])
    for head in range(3):
        volume = x[:, 1:, 4 * head : 4 * head + 4].transpose(1, 2).reshape(2, 4, 2, 6, 6)
        alone = F.conv3d(volume, pool.weight, stride=(1, 2, 2), padding=1, groups=4)
        torch.testing.assert_close(pooled[:, 1:, 4 * head : 4 * head + 4], alone.flatten(2).transpose(1, 2))


def test_a_maskfeat_file_starts_a_fine_tuning():
    source = models.build("mvit/micro", num_classes=3)
    file = {f"model.mvit.{k}" if k.startswith("blocks.") else f"model.{k}": v for k, v in source.state_dict().items()}
    file = {key: value for key, value in file.items() if "cls_head" not in key}
    model = models.build("mvit/micro", num_classes=9)
    assert all(key.startswith("cls_head.") for key in models.init_from(model, file).left)
    assert torch.equal(model.blocks[0].attn.q.weight, source.blocks[0].attn.q.weight)


# --- mistakes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: small_timesformer(attention="spce"), "attention='spce' is none of divided, joint, space"),
        (lambda: small_timesformer(copy_strategy="copy"), "none of repeat, set_zero"),
        (lambda: small_vivit(extend_strategy="mean"), "none of temporal_avg, center_frame"),
        (lambda: small_vivit(frames=5), "frames=5 must be a multiple of 2"),
        (lambda: small_timesformer(size=40), "size=40 must be a multiple of 16"),
        (lambda: small_timesformer()(torch.randn(1, 3, 3, 32, 32)), "3 frames given, built for 4"),
        (lambda: small_vivit()(torch.randn(1, 3, 4, 48, 48)), "built for clips"),
        (lambda: small_timesformer(attention="joint").attention_map(torch.randn(1, 3, 4, 32, 32)), "divided"),
        (lambda: MViT(frames=7, size=64), "no multiple of patch_stride"),
        (lambda: MViT(frames=4, size=32, depth=1, widen_at=(), pool_at=())(torch.randn(1, 3, 4, 64, 64)), "built for"),
    ],
)
def test_mistakes_are_named(build, message):
    with pytest.raises(UserError, match=message):
        build()
