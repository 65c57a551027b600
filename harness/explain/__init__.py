"""`reelbench explain`: visualize a checkpoint's prediction for one video, as panels side by side.

- `gradcam`: the frame, and the Grad-CAM map of a class.
- `attention`: the frame, attention rollout, the last layer's attention and its core; or each head of the last layer.
- `hog`: MaskFeat's masked input, predicted HOG, target HOG, and the frame.
- `tokens`: the frame, and DualFormer's predicted class for every token.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from ... import models, pipelines
from ...errors import UserError, unknown
from ...pipelines.index import Index, build, writable
from ...spec import Clip, Device, Views
from ..training import saved_weights, weights
from . import class_names, pictures
from .maps import CORE_TITLE, attention, grad_cam
from .pictures import Color, Panel

METHODS = ("gradcam", "attention", "hog", "tokens")
OPTIONS = {"label": "gradcam", "layer": "gradcam", "heads": "attention"}  # and the method that each belongs to
ALPHA = 0.55  # opacity of a token's color over its frame


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """Panels, `T H W 3` in 0..1, by title; a message; the legend: for `tokens`, the color of each class (RGB in 0..1).

    The message names the top classes, with the softmax probability or, if a video may have several labels, the
    sigmoid's; for `hog` the share of masked patches.
    """

    panels: dict[str, Panel]
    message: str
    legend: dict[str, Color] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Method:
    """A method of `METHODS` with its options. Raises UserError for another name, or an option of another method.

    Grad-CAM explains the class `label` (its name or index; the predicted one by default) at a `layer` (a dotted path;
    the architecture's own by default). With `heads`, `attention` shows each head of the last layer.
    """

    name: str = "gradcam"
    label: str | None = None
    layer: str | None = None
    heads: bool = False

    def __post_init__(self) -> None:
        if self.name not in METHODS:
            raise unknown("method", self.name, METHODS)
        given = {"label": self.label is not None, "layer": self.layer is not None, "heads": self.heads}
        for option, is_given in given.items():
            if is_given and self.name != OPTIONS[option]:
                raise UserError(f"--{option} belongs to --method {OPTIONS[option]}, here it is {self.name}")


def explain(
    name: str,
    video: Path,
    to: Path,
    *,
    checkpoint: Path,
    method: Method = Method(),  # noqa: B008 (frozen)
    data: str | None = None,
    raw: bool = False,
    device: Device = "cpu",
) -> Explanation:
    """Explain the prediction for the center clip of a video; write the panels to `to` and return them.

    `checkpoint` and `raw` are as in `saved_weights.find`. `data` names the classes, see `class_names.names`. The clip's
    shape is the one in the training folder of the checkpoint, else the model's published one. `hog` needs a checkpoint
    of MaskFeat's pre-training, and hides patches by a mask that is the same in every call. Raises UserError if the
    video or the checkpoint cannot be read, `to` has another suffix than `pictures.FORMATS`, the class or layer does not
    exist, or the method does not suit the model.
    """
    if to.suffix.lower() not in pictures.FORMATS:
        raise UserError(f"--to {to}: an explanation ends in {', '.join(pictures.FORMATS)}")
    writable(to)
    model = _load(name, checkpoint, method.name, raw).to(device).eval()
    shape = weights.clip_of(name, checkpoint)
    clip, seconds = read(video, shape, device)
    frames = _frames(clip, shape)
    if method.name == "hog":
        found = _hog(model, clip, frames)
    else:
        several = class_names.several_labels(checkpoint, data)
        with torch.inference_mode():
            logits = model(clip)[0]
            probabilities = logits.sigmoid() if several else logits.softmax(-1)
        classes = class_names.names(len(probabilities), checkpoint, data, models.find(name).classes)
        message = _top_classes(probabilities, classes)
        if method.name == "tokens":
            found = _tokens(model, clip, frames, classes, message)
        else:
            panels = look(model, clip, frames, method, classes)
            found = Explanation(panels={"frame": frames, **panels}, message=message)
    pictures.write(found.panels, to, fps=max(1.0, shape.frames / seconds), legend=found.legend)
    return found


def look(model: Any, clip: Tensor, frames: Panel, method: Method, classes: tuple[str, ...]) -> dict[str, Panel]:
    """Return panels by title for one clip, `1 3 T H W`: attention's if that is the method, else Grad-CAM's.

    `frames` are the clip's pixels, `T H W 3` in 0..1; `classes` the names of all classes.
    """
    if method.name == "attention":
        maps = attention(model, clip, heads=method.heads)
    else:
        label = None if method.label is None else class_names.find(method.label, classes)
        heat, top = grad_cam(model, clip, layer=method.layer, label=label)
        maps = {f"Grad-CAM: {classes[top]}": heat}
    drawn = {title: found[0].cpu().numpy() for title, found in maps.items()}
    return {
        title: (pictures.cut_out if title == CORE_TITLE else pictures.overlay)(frames, found)
        for title, found in drawn.items()
    }


def read(video: Path, clip: Clip, device: Device) -> tuple[Tensor, float]:
    """Return the center clip of a video, `1 3 T H W`, normalized, on `device`, and its nominal duration in seconds.

    That is frames x stride at 25 fps, whatever the video's frame rate and the clip's sampling, and at least 0.5.

    Raises UserError if the video does not exist or cannot be read.
    """
    if not video.is_file():
        raise UserError(f"no video {video}")
    index: Index = build([(video.resolve(), 0)], ("video",), video.resolve().parent, workers=0, progress=False)
    if index.skipped:
        raise UserError(f"{video} cannot be read: {index.skipped[0][1]}")
    with pipelines.open(index, clip=clip, views=Views(), batch=1, device=device, workers=1) as stream:
        found = next(iter(stream.epoch())).clip.clone()
    return found, max(0.5, clip.frames * clip.stride / 25)


def _load(name: str, checkpoint: Path, method: str, raw: bool) -> Any:
    if method == "hog":
        from ...models.maskfeat import MaskFeat

        encoder = models.build(name)
        if not hasattr(encoder, "decoder_pred"):
            raise UserError(f"{name} was not pre-trained by MaskFeat: --method hog needs mvit/b_16x4_maskfeat")
        loaded = models.init_from(encoder, weights.read(checkpoint, raw=raw))
        if any(key.startswith("decoder_pred.") for key in loaded.left):
            raise UserError(f"{checkpoint} was not pre-trained by MaskFeat: it has no decoder_pred to predict with")
        saved_weights.say(loaded)
        return MaskFeat(encoder)  # type: ignore[arg-type]
    state = weights.restore(name, checkpoint, clip=weights.clip_of(name, checkpoint), raw=raw)
    if method == "tokens" and not hasattr(state, "annotate"):
        raise UserError(f"{name} does not classify tokens: --method tokens needs a DualFormer")
    return state


def _frames(clip: Tensor, shape: Clip) -> Panel:
    """Return the pixels of a clip, its normalization undone."""
    mean, std = (torch.tensor(x, device=clip.device).view(3, 1, 1, 1) for x in (shape.mean, shape.std))
    return ((clip[0] * std + mean) / 255).clamp(0, 1).permute(1, 2, 3, 0).cpu().numpy()


def _top_classes(probabilities: Tensor, classes: tuple[str, ...]) -> str:
    top = probabilities.topk(min(5, len(probabilities)))
    pairs = zip(top.indices.tolist(), top.values.tolist(), strict=True)
    return ", ".join(f"{classes[label]} {100 * p:.1f} %" for label, p in pairs)


def _tokens(model: Any, clip: Tensor, frames: Panel, classes: tuple[str, ...], message: str) -> Explanation:
    with torch.inference_mode():
        labels = model.annotate(clip)[0].argmax(-1).cpu().numpy()  # t h w
    painted, colors = pictures.class_colors(pictures.spread(labels, frames.shape[:3]))
    panel = (ALPHA * painted + (1 - ALPHA) * frames).astype(np.float32)
    legend = {classes[label]: color for label, color in colors.items()}
    return Explanation(panels={"frame": frames, "tokens": panel}, message=message, legend=legend)


def _hog(model: Any, clip: Tensor, frames: Panel) -> Explanation:
    from ...models.maskfeat import draw_mask, hog_targets

    mask = draw_mask(random.Random(0), model.grid).patches
    with torch.inference_mode():
        predicted = model(clip, mask[None].to(clip.device))[0]  # T h w (cells 27)
    pixels = torch.from_numpy(frames * 255).permute(0, 3, 1, 2)  # T 3 H W
    target = hog_targets(pixels, model.patch)
    panels = {
        "given": pictures.hide(frames, mask.numpy()),
        "predicted": pictures.draw_hog(cells(predicted.cpu()).numpy()),
        "there is": pictures.draw_hog(cells(target).numpy()),
        "frame": frames,
    }
    message = f"{float(mask.float().mean()):.0%} of the patches were masked"
    return Explanation(panels=panels, message=message)


def cells(patches: Tensor) -> Tensor:
    """Rearrange the HOG cells of patches into an image: `T h w (dh dw 27)` -> `T (h dh) (w dw) 27`."""
    side = round((patches.shape[-1] // 27) ** 0.5)
    return rearrange(patches, "t h w (dh dw c) -> t (h dh) (w dw) c", dh=side, dw=side)
