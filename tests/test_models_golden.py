"""Every model computes what its official implementation computes, from the same weights and input."""

import pytest
import torch
from reelbench import models
from reelbench.tests import golden_models as goldens

PLAIN = [
    path.name
    for path in sorted(goldens.FOLDER.glob("*.json"))
    if {"model", "state_dict", "logits"} <= goldens.read(path.name).keys()
]


# Other weights, views or attention of a model that is among the rest.
LARGE = (
    "video_swin_b_sthv2.json", "timesformer_b_k600_released_names.json", "timesformer_b_joint_space_time_k400.json"
)  # fmt: skip


@pytest.fixture(autouse=True)
def _no_gradients(monkeypatch):
    """Nor random numbers: every weight is loaded, and drawing those of the large models takes as long as they run."""
    monkeypatch.setattr(torch.nn.init, "trunc_normal_", lambda tensor, *_, **__: tensor)
    with torch.inference_mode():
        yield


def _build(golden: dict) -> torch.nn.Module:
    if golden.get("after") == "reparameterize":
        source = goldens.read(golden["derived_from"])
        model = models.build(golden["model"], num_classes=golden["num_classes"], checkpoint=goldens.filled(source))
        return model.eval().reparameterize()
    return models.build(golden["model"], num_classes=golden["num_classes"], checkpoint=goldens.filled(golden)).eval()


@pytest.mark.slow  # clips through every model of full size
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.exhaustive] if name in LARGE else []) for name in PLAIN]
)
def test_logits(name):
    golden = goldens.read(name)
    model = _build(golden)
    assert goldens.difference(model(goldens.clip(golden)), golden["logits"]) < golden["tolerance"]
    if "logits_ramp" in golden:
        ramp = model(goldens.clip(golden, ramp=True))
        assert goldens.difference(ramp, golden["logits_ramp"]) < golden["tolerance"]


@pytest.mark.parametrize("name", PLAIN)
def test_parameters(name):
    golden = goldens.read(name)
    with torch.device("meta"):
        model = models.build(golden["model"], num_classes=golden["num_classes"])
        if golden.get("after") == "reparameterize":
            model = model.reparameterize()
    assert sum(p.numel() for p in model.parameters()) == golden["params"]
