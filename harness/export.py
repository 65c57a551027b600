"""`reelbench export`: a checkpoint as safetensors, or as a `torch.export` program or ONNX, checked against eager."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .. import models
from ..errors import UserError, unknown
from ..pipelines.index import writable
from ..spec import Clip
from .measuring import exported
from .training import weights

TOLERANCE = 1e-4
FORMATS = (".safetensors", ".pt2", ".onnx")


def export(
    model: str,
    checkpoint: Path,
    out: Path,
    clip: Clip | None,
    *,
    options: Mapping[str, Any] | None = None,
    raw: bool = False,
) -> str:
    """Export a checkpoint in the format of `out`'s suffix and return a summary line.

    Of a training run's `checkpoints` folder the averaged weights are taken, if it has them and unless `raw` is set.

    A .pt2 or .onnx program takes a batch of 1 to 4096 clips, `N 3 T H W`, of the shape of `clip` (by default the
    training run's, or the model's own), and returns the logits of eval mode; `options` are as in `weights.restore`.
    Raises UserError, and writes nothing, if its logits differ from eager mode's by more than `TOLERANCE` of the
    largest, the suffix is none of `FORMATS`, torch cannot trace the model, ONNX lacks a package or an operator, or
    `out` cannot be written. A .safetensors file holds the weights alone, without those that only training needs, and is
    not checked.
    """
    if out.suffix not in FORMATS:
        raise unknown("export format", out.suffix, FORMATS)
    _require_onnx(out)
    writable(out)
    shape = clip or weights.clip_of(model, checkpoint)
    network = weights.restore(model, checkpoint, clip=shape, options=options, raw=raw).eval()
    if out.suffix == ".safetensors":
        models.save(network, out)
        return f"{sum(p.numel() for p in network.parameters())} parameters -> {out}"
    example = torch.randn(2, 3, shape.frames, shape.size, shape.size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode(mode=False), torch.no_grad():
        network(example)  # fill caches, such as attention masks, before tracing
    temporary = out.with_name(f".{out.name}")
    run = (_program if out.suffix == ".pt2" else _onnx)(network, example, temporary)
    difference = _difference(network, run, torch.cat((example, -example[:1])))
    if not difference <= TOLERANCE:  # NaN too
        temporary.unlink()
        raise UserError(f"{out}: logits differ from eager's by {difference:.1e} of the largest: not written")
    temporary.replace(out)
    return f"logits within {difference:.1e} of eager's largest -> {out}"


def _program(network: nn.Module, example: Tensor, path: Path) -> Callable[[Tensor], Tensor]:
    torch.export.save(exported.traced(network, example, {0: torch.export.Dim("clips", min=1, max=4096)}), path)
    return torch.export.load(path).module()


def _onnx(network: nn.Module, example: Tensor, path: Path) -> Callable[[Tensor], Tensor]:
    import onnxruntime  # type: ignore[import-not-found]

    exported.to_onnx(network, example, path, {0: torch.export.Dim("clips", min=1, max=4096)})
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda clip: torch.from_numpy(session.run(None, {"clip": clip.numpy()})[0])


def _require_onnx(out: Path) -> None:
    if out.suffix == ".onnx" and (missing := exported.missing_packages()):
        raise UserError(f"{out}: ONNX needs {', '.join(missing)}: pip install {' '.join(missing)}")


@torch.inference_mode()
def _difference(network: nn.Module, run: Callable[[Tensor], Tensor], clip: Tensor) -> float:
    """Return the largest absolute difference of the logits relative to the largest logit."""
    expected = network(clip)
    return float((run(clip) - expected).abs().max() / expected.abs().max())
