"""`reelbench eval`: test a checkpoint on an index under a view protocol, in one process or several ranks."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor

from .. import models, pipelines
from ..errors import UserError, unknown
from ..pipelines import decoder_choice
from ..pipelines.index import Index
from ..pipelines.progress import counting
from ..result import Metric
from ..spec import Activation, Arithmetic, Clip, Decoder, Device, Views
from . import dump
from .measuring import execution
from .measuring.accuracy import Predictions, evaluate, scores
from .training import engine as ds
from .training import rendezvous, saved_weights, weights

Logits = dict[int, dict[int, list[float]]]


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The options of an evaluation. `views` and `clip` default to the model's own; `batch` is in videos per rank.

    `checkpoint` and `raw` are as in `saved_weights.find`; without one the model's own weights are tested. `scores` as
    `activation` in `accuracy.evaluate`. The scores of each video and the logits of each view are written to the file
    `dump`, if given (see `dump.write`). Raises UserError for an unknown precision or way of scoring.
    """

    model: str
    data: Path
    checkpoint: Path | None = None
    views: Views | None = None
    clip: Clip | None = None
    precision: Arithmetic = "fp32"
    scores: Activation | None = None
    raw: bool = False
    batch: int = 8
    device: Device = "cpu"
    workers: int = 2
    decoder: Decoder = "auto"
    dump: Path | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.precision not in get_args(Arithmetic):
            raise unknown("precision", self.precision, get_args(Arithmetic))
        if self.scores not in (None, *get_args(Activation)):
            raise unknown("--scores", self.scores, get_args(Activation))


def check(asked: Evaluation) -> Index:
    """Check an evaluation before it starts, and return its index.

    Raises UserError if the model is unknown or returns no logits of its clip, the environment of a rank is incomplete,
    the dump cannot be written, there are no videos, half of the files or more are missing or changed, a label is no
    class, no video has a label and nothing is dumped, the decoder decodes none of the videos, or the checkpoint's
    training folder names other classes.
    """
    if asked.model not in models.names():
        models.check_clip(asked.model, _clip(asked), _options(asked))
    rendezvous.check(os.environ)
    if asked.dump is not None:
        dump.check(asked.dump)
    index = Index.load(asked.data)
    if not len(index):
        raise UserError(f"{asked.data} holds no videos, {len(index.skipped)} were skipped: `reelbench data check` it")
    unlabeled = not index.multi_label and all(labels[0] == -1 for labels in index.table["label"])
    index.check_labels(unlabeled=unlabeled)
    if unlabeled and asked.dump is None:
        raise UserError(f"{asked.data}: no video has a label (a test split?): take the validation split, or --dump")
    if asked.checkpoint is None:
        weights.check_own(asked.model, index.classes, asked.data, asked.options)
    else:
        saved_weights.check_classes(asked.checkpoint, index.classes, asked.data)
    index.verify()
    decoder_choice.check(index, asked.decoder, asked.device)
    return index


def evaluate_checkpoint(asked: Evaluation) -> dict[str, Metric]:
    """Evaluate the checkpoint and return the data set's metrics by name.

    Under a launcher, each rank tests its shard of the videos, every video exactly once; rank 0 returns the metrics over
    all of them, the other ranks {}; the ranks are disconnected after it. Unreadable videos are printed to standard
    error. Raises UserError for what `check` finds, or if no video can be read or has a label.
    """
    variant, index = models.find(asked.model), check(asked)
    protocol, device = asked.views or variant.views, asked.device
    world = ds.connect(device) if "RANK" in os.environ else ds.World(0, 1, torch.device(device))
    clip = _clip(asked)
    run = _network(asked, clip, len(index.classes), world.device)
    logits: list[Tensor] = []

    def forward(clip: Tensor) -> Tensor:
        found = run(clip)
        if asked.dump is not None:
            logits.append(found.float().cpu())
        return found

    with (
        pipelines.open(
            index, clip=clip, views=protocol, batch=asked.batch, device=device, workers=asked.workers,
            decoder=asked.decoder, sampler=pipelines.SamplerState(rank=world.rank, world=world.size),
        ) as stream,
        counting("videos", len(range(world.rank, len(index), world.size)), visible=world.is_main) as tell,
    ):  # fmt: skip
        noted = _Noted(stream)
        mine = evaluate(forward, noted, activation=asked.scores, progress=tell)
    by_view = noted.by_view(logits)
    if "RANK" in os.environ:
        parts, by_views = ds.gather(mine), ds.gather(by_view)
        ds.disconnect()
        if not world.is_main:
            return {}
        mine, by_view = Predictions.join(parts), {video: rows for part in by_views for video, rows in part.items()}
    mine = mine.in_groups(index.groups)
    for path, reason in mine.broken:
        print(f"skipped: {path}: {reason}", file=sys.stderr)
    if asked.dump is not None:
        views = {video: [rows[view] for view in sorted(rows)] for video, rows in by_view.items()}
        dump.write(asked.dump, mine, [str(video.path) for video in index.videos()], views)
    return scores(mine, len(index.classes), str(protocol), precision=asked.precision)


def _clip(asked: Evaluation) -> Clip:
    return asked.clip or weights.clip_of(asked.model, asked.checkpoint)


def _options(asked: Evaluation) -> Mapping[str, Any]:
    if asked.options or asked.checkpoint is None:
        return asked.options
    return weights.trained_with(asked.model, asked.checkpoint)


def _network(asked: Evaluation, clip: Clip, num_classes: int, device: torch.device) -> Callable[[Tensor], Tensor]:
    """Return the network with its weights, in the precision asked for, from `N 3 T H W` to logits."""
    if asked.checkpoint is None:
        network = models.build(asked.model, num_classes=num_classes, clip=clip, **asked.options)
    else:
        network = weights.restore(
            asked.model, asked.checkpoint, num_classes=num_classes, clip=clip, options=asked.options, raw=asked.raw
        )
    network = network.to(device).eval()
    execution.set_up(asked.precision, "eager", device)
    return execution.in_precision(execution.cast(network, asked.precision), asked.precision, device)


class _Noted:
    """A stream wrapper that records the video and view of each row of its batches."""

    def __init__(self, stream: pipelines.Stream) -> None:
        self._stream = stream
        self._rows: list[tuple[int, int]] = []
        self.metric, self.listed, self.classes = stream.metric, stream.listed, stream.classes
        self.decoder = stream.decoder

    @property
    def skipped(self) -> list[tuple[str, str]]:
        """The (path, reason) of unreadable videos."""
        return [(path, reason) for path, reason in self._stream.skipped]

    def epoch(self) -> Iterator[pipelines.Batch]:
        """Yield the batches of one epoch."""
        for batch in self._stream.epoch():
            self._rows += zip(batch.video.tolist(), batch.view.tolist(), strict=True)
            yield batch

    def by_view(self, logits: list[Tensor]) -> Logits:
        """Return the logits, in the order of the batches, by video and view."""
        found: Logits = {}
        values = (row for part in logits for row in part.tolist())
        for (video, view), row in zip(self._rows if logits else [], values, strict=True):
            found.setdefault(video, {})[view] = row
        return found
