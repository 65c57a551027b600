"""`reelbench predict`: the most probable classes of video files, as `eval` would score them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .. import models, pipelines
from ..errors import printable
from ..pipelines.index import Index, build, from_videos
from ..pipelines.progress import counting
from ..spec import Device, Views
from .explain import class_names
from .measuring import execution
from .measuring.accuracy import Predictions, evaluate
from .training import weights

TOP = 5


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What predicts: a model and its weights, `checkpoint` and `raw` as in `saved_weights.find`.

    Without a checkpoint they are those that the model comes with. `views` default to the model's own. `data` names the
    classes, see `class_names.names`.
    """

    model: str
    checkpoint: Path | None = None
    data: str | None = None
    views: Views | None = None
    raw: bool = False
    device: Device = "cpu"
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Prediction:
    """The best classes of a file, at most five, best first, as (number, name, score in 0..1); or why there are none."""

    path: Path
    classes: tuple[tuple[int, str, float], ...] = ()
    error: str = ""


def predict(asked: Asked, files: Sequence[Path]) -> list[Prediction]:
    """Return a prediction for each file, in their order; scores are probabilities averaged over the views.

    They are of a softmax, or if a video may have several labels of a sigmoid. Raises UserError if the model has no
    weights, the checkpoint does not fit, or the classes' names are not as many as its classes.
    """
    network = _network(asked).to(asked.device).eval()
    scanned = [build([(file.absolute(), 0)], ("video",), Path.cwd(), workers=0, progress=False) for file in files]
    index = from_videos((one[0] for one in scanned if len(one)), ("video",), Path.cwd())
    tested = _test(asked, network, index) if len(index) else None
    by_row = dict(zip(tested.video.tolist(), tested.score, strict=True)) if tested else {}
    broken = dict(tested.broken) if tested else {}
    names = _names(asked, len(next(iter(by_row.values())))) if by_row else ()
    found, rows = [], iter(range(len(index)))
    for file, one in zip(files, scanned, strict=True):
        row = next(rows) if len(one) else -1
        if row in by_row:
            found.append(Prediction(file, _best(by_row[row], names)))
        else:
            found.append(Prediction(file, error=one.skipped[0][1] if row < 0 else broken[str(index[row].path)]))
    return found


def _test(asked: Asked, network: nn.Module, index: Index) -> Predictions:
    """Return the mean scores of the videos of an index, by their rows."""
    clip, views = weights.clip_of(asked.model, asked.checkpoint), asked.views or models.find(asked.model).views
    several = asked.checkpoint is not None and class_names.several_labels(asked.checkpoint, asked.data)
    execution.set_up("fp32", "eager", torch.device(asked.device))
    with (
        pipelines.open(index, clip=clip, views=views, batch=1, device=asked.device, workers=1) as stream,
        counting("videos", len(index)) as tell,
    ):
        return evaluate(network, stream, activation="sigmoid" if several else "softmax", progress=tell)


def _names(asked: Asked, count: int) -> tuple[str, ...]:
    return class_names.names(count, asked.checkpoint, asked.data, models.find(asked.model).classes)


def _best(score: Tensor, names: tuple[str, ...]) -> tuple[tuple[int, str, float], ...]:
    top = score.topk(min(TOP, len(score)))
    return tuple((k, names[k], value) for k, value in zip(top.indices.tolist(), top.values.tolist(), strict=True))


def _network(asked: Asked) -> nn.Module:
    """Return the network with trained weights. Raises UserError if there are none."""
    clip = weights.clip_of(asked.model, asked.checkpoint)
    if asked.checkpoint is not None:
        return weights.restore(asked.model, asked.checkpoint, clip=clip, options=asked.options, raw=asked.raw)
    weights.check_own(asked.model, models.find(asked.model).classes, asked.model, asked.options)
    return models.build(asked.model, clip=clip, **asked.options)


def to_text(found: Sequence[Prediction]) -> str:
    """Return each file's name, with its classes below it or the reason beside it."""
    lines: list[str] = []
    for one in found:
        name = printable(str(one.path))
        lines.append(f"{name}: cannot be read: {one.error}" if one.error else name)
        lines += [f"  {100 * score:5.1f} %  {title}" for _, title, score in one.classes]
    return "\n".join(lines)


def to_json(found: Sequence[Prediction]) -> str:
    """Return a JSON array of an object per file: `path`, and `classes` or `error`."""
    rows = [
        {"path": printable(str(one.path)), "error": one.error}
        if one.error
        else {
            "path": printable(str(one.path)),
            "classes": [{"number": number, "name": name, "score": score} for number, name, score in one.classes],
        }
        for one in found
    ]
    return json.dumps(rows, indent=1, ensure_ascii=False)
