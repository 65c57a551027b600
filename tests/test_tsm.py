"""The temporal shift, non-local blocks, MobileOne's fusion and the online stream, against the official code."""

import pytest
import torch
from reelbench import models
from reelbench.errors import UserError
from reelbench.models import _shift, _tsm_names
from reelbench.models._conv import NonLocal
from reelbench.tests import golden_models as goldens


@pytest.mark.parametrize("case", goldens.read("tsm_shift.json")["cases"], ids=lambda c: f"C{c['C']}xT{c['T']}")
def test_shift_and_its_gradient(case):
    n, t, c, h, w = (case[key] for key in "NTCHW")
    x = torch.arange(1.0, n * t * c * h * w + 1).view(n * t, c, h, w).requires_grad_()
    shifted = _shift.both(x, t, case["fold"])
    shifted.backward(x.detach())
    assert shifted.flatten().tolist() == case["output"]
    assert x.grad is not None
    assert x.grad.flatten().tolist() == case["gradient"]


def test_the_online_shift_sees_the_past_only():
    x = torch.arange(1.0, 5).view(4, 1, 1, 1).expand(4, 8, 1, 1)
    assert _shift.past(x, frames=4, fold=1)[:, :2, 0, 0].tolist() == [[0, 1], [1, 2], [2, 3], [3, 4]]


KINDS = {"gaussian": "gauss", "embedded_gaussian": "embedded", "dot_product": "dot"}


@pytest.mark.parametrize("case", goldens.read("tsm_nonlocal.json")["cases"], ids=lambda c: f"{c['mode']}-{c['pool']}")
def test_non_local_blocks(case):
    block = NonLocal(16, KINDS[case["mode"]], pool=case["pool"]).eval()  # type: ignore[arg-type]
    state = _tsm_names.mmaction({f"x.{key}": value for key, value in goldens.filled(case).items()})
    block.load_state_dict({key.removeprefix("x."): value for key, value in state.items() if key}, strict=False)
    x = goldens.clip({"input": {"shape": (2, 16, 4, 6, 6)}}) * 0.5
    with torch.inference_mode():
        assert goldens.difference(block(x).flatten()[::29], case["values"]) < 1e-5


def test_a_very_deep_resnet_shifts_every_second_block():
    with torch.device("meta"):
        backbone = models.build("tsm/r101_8f").backbone
    shifted = [sum(block.shifted for block in getattr(backbone, f"layer{i}")) for i in (1, 2, 3, 4)]
    assert shifted == [2, 2, 12, 2]


def test_a_stream_gives_the_official_logits_frame_by_frame():
    golden = goldens.read("tsm_mobilenetv2_online_jester.json")
    model = models.build(golden["model"], num_classes=27, checkpoint=goldens.filled(golden)).eval()
    clip, stream = goldens.clip(golden), model.stream()
    for t, expected in enumerate(golden["logits_per_frame"]):
        assert goldens.difference(stream.push(clip[:, :, t]), expected) < 1e-5
    for cache, (shape, mean, std) in zip(stream.caches, golden["caches"], strict=True):
        assert list(cache.shape) == shape
        assert cache.mean().item() == pytest.approx(mean, abs=1e-5)
        assert cache.std(correction=0).item() == pytest.approx(std, abs=1e-3)


def test_streams_do_not_share_their_memory():
    model = models.build("tsm/mobilenetv2_online").eval()
    frames = torch.randn(3, 1, 3, 64, 64)
    alone, other = model.stream(), model.stream()
    alone.push(frames[0])
    other.push(frames[2])
    again = model.stream()
    again.push(frames[0])
    assert torch.equal(alone.push(frames[1]), again.push(frames[1]))


def test_only_the_online_form_streams():
    with pytest.raises(UserError, match="mobilenetv2_online"):
        models.build("tsm/micro").stream()


def test_a_deployed_checkpoint_loads_into_the_deployed_form():
    golden = goldens.read("tsm_mobileone_s4_16f_deploy.json")
    model = models.build(golden["model"], deploy=True, checkpoint=goldens.filled(golden)).eval()
    with torch.inference_mode():
        assert goldens.difference(model(goldens.clip(golden)), golden["logits_rule_filled"]) < golden["tolerance"]


def test_fusing_twice_or_a_clip_of_odd_length():
    with torch.device("meta"):
        model = models.build("tsm/mobileone_s4_16f").reparameterize().reparameterize()
        with pytest.raises(UserError, match="12 frames are no multiple of the 8 segments"):
            model(torch.empty(1, 3, 12, 64, 64))
    assert not any("branch_scale" in key for key in model.state_dict())
