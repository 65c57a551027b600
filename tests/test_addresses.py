"""A model of a user's own file or module has an address, which every verb takes, in whatever folder it runs."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from reelbench import address, models, reports
from reelbench.errors import UserError
from reelbench.harness.explain import maps
from reelbench.harness.suites import ledger, sweep
from reelbench.harness.training.check import check_job
from reelbench.harness.training.job import Job
from reelbench.result import Result
from reelbench.spec import Case, Clip, Recipe, Suite
from reelbench.tests import ranks
from torch import nn

# A constructor that needs values, as drop-path rates do; a head that is not called as ours; a module beside it.
MINE = """
import torch
from torch import nn
from reelbench.models import Variant
from reelbench.spec import Clip
from beside import WIDTH

CLIP = Clip(frames=4, stride=2, size=32, short_side=32)

class Net(nn.Module):
    def __init__(self, num_classes: int = 7, width: int = WIDTH, depth=1):
        super().__init__()
        rates = [x.item() for x in torch.linspace(0, 0.0, depth)]
        self.stem = nn.Sequential(nn.Conv3d(3, width, 3, padding=1, stride=2), nn.ReLU())
        self.drop = nn.Dropout(rates[0])
        self.fc = nn.Linear(width, num_classes)

    def forward(self, clip):
        return self.fc(self.drop(self.stem(clip).mean((2, 3, 4))))

VARIANTS = {"small": Variant(build=Net, clip=CLIP), "wide": Variant(build=Net, clip=CLIP, kwargs={"width": 16})}

def net(num_classes=400): return Net(num_classes)
def tall(num_classes, frames=8, size=64): return Net(num_classes)
def broken(num_classes): return {}["missing"]
def no_module(num_classes): return [num_classes]
def no_classes(): return Net(3)
def deaf(num_classes): return Net(9)
def sequence(num_classes):
    return nn.Sequential(nn.Conv3d(3, num_classes, 1), nn.Flatten(2))
def several(num_classes):
    class Several(Net):
        def forward(self, clip): return super().forward(clip), clip
    return Several(num_classes)
instance = Net(3)
"""


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "nets"
    folder.mkdir()
    (folder / "beside.py").write_text("WIDTH = 8\n")
    (folder / "mine.py").write_text(MINE)
    (folder / "clipless.py").write_text(MINE.replace("CLIP", "OTHER"))
    (folder / "empty.py").write_text("")
    (folder / "damaged.py").write_text("x = 1\nraise RuntimeError('no such\\nthing')\n")
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "beside", raising=False)
    return folder / "mine.py"


@pytest.mark.parametrize(
    ("name", "place", "sign", "entry"),
    [
        ("video_swin/t", "video_swin", "/", "t"),
        ("a/b.py/c", "a/b.py", "/", "c"),
        ("/a/b.py:c", "/a/b.py", ":", "c"),
        ("a.b/c", "a.b", "/", "c"),
        ("a.b:c", "a.b", ":", "c"),
        ("hf:facebook/x.py", "hf", ":", "facebook/x.py"),
        ("timm:hf_hub:timm/resnet18.a1_in1k", "timm", ":", "hf_hub:timm/resnet18.a1_in1k"),
        ("a.py", "a.py", "/", ""),
        ("nonsense", "nonsense", "/", ""),
    ],
)
def test_an_address_has_parts(name, place, sign, entry):
    assert address.parse(name) == address.Address(place, sign, entry)


def test_paths_become_absolute_and_labels_short(mine, monkeypatch):
    monkeypatch.chdir(mine.parent)
    (mine.parent / "weights").mkdir()
    assert address.absolute("mine.py/small") == f"{mine}/small"
    assert address.absolute("../nets/mine.py:net") == f"{mine}:net"
    assert address.absolute("hf:weights") == f"hf:{mine.parent}/weights"
    for name in ("hf:facebook/timesformer", "tsm/micro", "a.b:c", "torchvision:s3d"):
        assert address.label(name) == address.absolute(name) == name
    assert address.label(f"{mine}/small") == "nets/mine.py/small"
    assert address.label(f"hf:{mine.parent}/weights") == "hf:nets/weights"


def test_variants_and_functions_of_a_file(mine):
    small, wide = (models.build(f"{mine}/{name}", num_classes=5) for name in ("small", "wide"))
    assert small.stem[0].out_channels == 8
    assert wide.stem[0].out_channels == 16
    found = models.find(f"{mine}:net")
    assert (found.clip, found.num_classes, found.head) == (
        Clip(frames=4, stride=2, size=32, short_side=32), 400, ("fc.",),
    )  # fmt: skip
    assert models.find(f"{mine}/small").head == ("fc.",)
    assert models.find(f"{mine}:Net").num_classes == 7
    assert models.option_types(f"{mine}:Net") == {"width": int, "depth": int}
    assert models.build(f"{mine}:Net", num_classes=2, width=12).stem[0].out_channels == 12
    models.check_clip(f"{mine}:net", found.clip)


def test_modules_are_found_from_the_folder_and_the_path(mine, monkeypatch):
    package = mine.parent / "my_package"
    package.mkdir()
    (package / "nets.py").write_text(MINE)
    monkeypatch.chdir(mine.parent)
    monkeypatch.syspath_prepend(str(mine.parent))
    for name in ("my_package.nets/small", "my_package.nets:net", "mine/wide"):
        assert models.build(name, num_classes=3).fc.out_features == 3


def test_a_clip_is_given_where_there_is_none(mine):
    name = f"{mine.parent / 'clipless.py'}:tall"
    with pytest.raises(
        UserError, match=r"nets/clipless.py:tall has no clip of its own: give --frames and --size, .*CLIP"
    ):
        models.choose_clip(name, None)
    clip = models.choose_clip(name, None, changes={"frames": 6, "size": 48})
    assert (clip.frames, clip.size) == (6, 48)
    models.check_clip(name, clip)
    case = Case(model=name, clip=clip, metrics=("parameters",))
    assert sweep.resolve_cases(Suite(name="s", description="", cases=(case,)), "cpu", ())[0].clip == clip


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nets/mine.py/smal", "unknown variant of .*mine.py 'smal': did you mean 'small'"),
        ("nets/mine.py:nett", "unknown function of .*mine.py 'nett': did you mean 'net'"),
        ("nets/mime.py/small", "no file .*mime.py: did you mean mine.py"),
        ("nets/mine.py", "mine.py is a file: name one of its variants, .*mine.py/VARIANT, or functions"),
        ("nets/empty.py/net", "empty.py lacks VARIANTS: end it with VARIANTS = "),
        ("nets/damaged.py/net", r"damaged.py does not import: RuntimeError: no such thing \(damaged.py, line 2\)"),
        ("nets/mine.py:broken", r"mine.py:broken fails: KeyError: 'missing' \(mine.py, line \d+\)"),
        ("nets/mine.py:no_module", "mine.py:no_module returns a list, not a torch.nn.Module"),
        ("nets/mine.py:no_classes", r"mine.py:no_classes does not take num_classes: define it as def no_classes\(num"),
        ("nets/mine.py:instance", "mine.py:instance is a Net: name a function that builds a network"),
        (
            "no_such_package.nets/net",
            "model 'no_such_package.nets/net': Python finds no module no_such_package",
        ),
        ("no_such_package:net", "model 'no_such_package:net': Python finds no module no_such_package"),
        ("json/t", "json lacks VARIANTS"),
        ("video_swim/t", "unknown model 'video_swim/t': did you mean 'video_swin/t'"),
        ("video_swin", "unknown model 'video_swin': did you mean"),
    ],
)
def test_an_address_that_names_nothing(mine, monkeypatch, name, said):
    monkeypatch.chdir(mine.parent.parent)
    with pytest.raises(UserError, match=said) as raised:
        models.find(name)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("library", "extra"), [("transformers", "hf"), ("timm", "timm"), ("torchvision", "torchvision")]
)
def test_a_missing_library_is_named_with_its_extra(monkeypatch, library, extra):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=rf"{extra}: models need {library}, .*: pip install 'reelbench\[{extra}\]'"):
        models.find(f"{extra}:no_such_model")


def test_a_library_that_does_not_import_is_named(monkeypatch, tmp_path):
    (tmp_path / "timm.py").write_text("raise RuntimeError('operator torchvision::nms\\ndoes not exist')")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "timm", raising=False)
    with pytest.raises(UserError, match=r"timm does not import \(operator torchvision::nms does not exist\): install"):
        models.find("timm:resnet50")


@pytest.mark.parametrize(("function", "found"), [("deaf", "1×9"), ("sequence", "1×2×4096"), ("several", "a tuple")])
def test_an_output_that_is_no_logits(mine, function, found):
    with pytest.raises(UserError, match=f"returns {found}, not logits of 1×2"):
        models.check_clip(f"{mine}:{function}", models.choose_clip(f"{mine}:{function}", None))


def test_a_job_keeps_an_absolute_address(mine, tmp_path, monkeypatch):
    monkeypatch.chdir(mine.parent)
    clip = models.choose_clip("mine.py:net", None, changes={"frames": 8})
    assert (clip.frames, clip.size) == (8, 32)
    made = Job(model="mine.py:net", data=Path("x.parquet"), recipe=Recipe(), clip=clip)
    made.write()
    monkeypatch.chdir(tmp_path)
    assert Job.read(mine.parent / "runs/train/job.json").model == made.model == f"{mine}:net"


def test_grad_cam_of_a_network_of_ones_own(mine):
    model = models.build(f"{mine}/small", num_classes=3).eval()
    clip = torch.randn(2, 3, 4, 32, 32)
    with pytest.raises(UserError, match="no default layer for Grad-CAM: name one with --layer"):
        maps.grad_cam(model, clip)
    heat, _ = maps.grad_cam(model, clip, layer="stem", label=1)
    features = model.stem(clip)
    weights = model.fc.weight[1] - (model(clip).softmax(-1) @ model.fc.weight)  # of the softmax, up to a factor
    expected = (features * weights[:, :, None, None, None]).sum(1).relu()
    peak = heat.flatten(1).argmax(1)
    assert heat.shape == (2, 4, 32, 32)
    for n in range(2):
        t, y, x = (int(i) for i in torch.unravel_index(peak[n], (4, 32, 32)))
        near = expected[n, t // 2, y // 2, x // 2]
        assert near > 0.5 * expected[n].max()
    with pytest.raises(UserError, match="--layer fc returns 2×3, which is no grid"):
        maps.grad_cam(model, clip, layer="fc")


def test_channels_come_where_the_layer_puts_them():
    tokens = torch.arange(2.0 * 9 * 5).view(2, 9, 5)
    model = nn.Module()
    model.output_grid = (2, 2, 2)  # a class token before the patches
    assert torch.equal(maps.volume(tokens, model, 2)[1, :, 1, 0, 1], tokens[1, 1 + 5])
    planes = torch.zeros(2, 5, 2, 3, 3)
    assert maps.volume(planes, model, 2, planes=True).shape == (2, 5, 2, 3, 3)
    assert maps.volume(planes.movedim(1, -1), model, 2).shape == (2, 5, 2, 3, 3)


@pytest.mark.slow  # processes of their own
def test_a_suite_measures_a_users_network_from_another_folder(mine, tmp_path, monkeypatch):
    monkeypatch.chdir(mine.parent)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    made = Suite(
        name="own", description="", cases=tuple(
            Case(model=name, metrics=("parameters", "flops")) for name in ("mine.py/small", "mine.py:net")
        )
    )  # fmt: skip
    results, _ = sweep.sweep(made, tmp_path / "out", device="cpu", only=["mine.py*"])
    assert [(r.case.model, r.status) for r in results] == [(f"{mine}/small", "ok"), (f"{mine}:net", "ok")]
    monkeypatch.chdir(tmp_path)
    [one, _] = ledger.read(tmp_path / "out")
    again = Suite(name="own", description="", cases=(Case(model=one.case.model, metrics=("parameters", "flops")),))
    _, measured = sweep.sweep(again, tmp_path / "out", device="cpu")
    assert measured == []
    assert "nets/mine.py/small" in reports.render(results, "markdown")


def test_reports_call_a_file_by_its_last_folder():
    result = Result(case=Case(model="/home/me/nets/mine.py/small"), status="failed", started="now", seconds=1.0)
    text = reports.render([result], "markdown")
    assert "nets/mine.py/small" in text
    assert "/home/me" not in text


@pytest.mark.slow  # two ranks through the launcher, then eval, export, convert and explain
def test_a_users_network_trains_on_two_ranks(mine, tmp_path, monkeypatch, tiny_synthetic, reelbench):
    monkeypatch.chdir(mine.parent)
    clip, recipe = models.choose_clip("mine.py/small", None), Recipe(epochs=1, batch=8)
    out, options = tmp_path / "out", {"width": 6}
    made = Job(
        model="mine.py/small", data=tiny_synthetic["train"], recipe=recipe, clip=clip, out=out, options=options,
        workers=1,
    )  # fmt: skip
    check_job(made, 2)
    monkeypatch.chdir(tmp_path)
    assert len(ranks.losses(made, ranks.launched(made, 2))) == 3
    weights, video = out / "last.safetensors", next(tiny_synthetic["test"].parent.rglob("*.webm"))
    cpu, name = ("--device", "cpu"), "nets/mine.py/small"
    for line, wanted in (
        (("eval", name, "--checkpoint", weights, "--data", tiny_synthetic["test"], *cpu, "--workers", 1), "top1"),
        (("export", out / "checkpoints", "m.pt2", "--model", name), "logits within"),
        (("convert", out / "checkpoints", "w.safetensors", "--model", name), "parameters -> w.safetensors"),
        (("explain", name, video, "--checkpoint", weights, "--layer", "stem", "--to", "map.png", *cpu), "map.png"),
    ):
        code, printed, said = reelbench(*line)
        assert code == 0, said
        assert wanted in printed
