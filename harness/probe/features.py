"""Features of videos, computed by a frozen encoder, or taken from disk if they were computed before.

They are those of everything that they depend on: the encoder (address, options, weights, and the code of its modules),
the videos, clip, views, precision, decoder and device.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ... import __version__, address, cache, pipelines
from ...errors import UserError
from ...pipelines.index import Index
from ...spec import Views
from ..events import Event, Report
from ..measuring import execution
from ..training.job import Job
from . import fingerprint, store

VIDEOS = 8  # at once, as in `reelbench eval`; fewer if each has several views
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
TOLERANCE = 0.05  # of the largest feature, between a clip alone and in a batch: bf16 keeps two to three digits
Forward = Callable[[Tensor], Tensor]


def of(encoder: nn.Module, index: Index, job: Job, views: Views, report: Report) -> store.Features:
    """Return the features of an index's videos: those on disk if there are any, else computed and kept there.

    `encoder` is in eval mode on the job's device and maps `N 3 T H W` to `N D` or `N L D`. Which of the two it was, and
    the videos that cannot be read, are printed to standard error. Raises UserError if none can, the disk is too small,
    or the features are not finite or mix the clips of a batch.
    """
    with pipelines.open(
        index, clip=job.clip, views=views, batch=max(1, VIDEOS // views.count), device=job.device, workers=job.workers,
        decoder=job.decoder,
    ) as stream:  # fmt: skip
        facts = _facts(encoder, index, job, views, stream.decoder)
        folder = _folder(facts)
        found = store.read(folder, facts)
        if found is not None:
            print(f"features are there from an earlier run: {found.size} in {folder}", file=sys.stderr)
        else:
            with store.part_of(folder) as part:
                _compute(_forward(encoder, job), stream, (len(index), views.count), part, facts, report)
            found = store.read(folder, facts)
            assert found is not None
    paths = [str(video.path) for video in index.videos()] if found.skipped else []
    for row, reason in found.skipped.items():
        print(f"skipped: {paths[row]}: {reason}", file=sys.stderr)
    return found


def _facts(encoder: nn.Module, index: Index, job: Job, views: Views, decoder: str) -> dict[str, Any]:
    facts = {
        "reelbench": __version__, "model": job.model, "options": repr(dict(job.options)),
        "encoder": fingerprint.of(encoder), "index": index.fingerprint, "clip": dataclasses.asdict(job.clip),
        "views": dataclasses.asdict(views), "precision": job.recipe.precision, "decoder": decoder, "device": job.device,
    }  # fmt: skip
    return json.loads(json.dumps(facts))  # as they are read again


def _folder(facts: dict[str, Any]) -> Path:
    key = hashlib.blake2b(json.dumps(facts, sort_keys=True).encode(), digest_size=8).hexdigest()
    return cache.folder() / "features" / key


def _forward(encoder: nn.Module, job: Job) -> Forward:
    device, precision = torch.device(job.device), job.recipe.precision
    title = address.label(job.model)

    def forward(clip: Tensor) -> Tensor:
        with torch.inference_mode(), execution.training(device, precision):
            found = encoder(clip).to(DTYPES[precision])
        if not bool(found.isfinite().all()):
            remedy = "check its weights, --mean and --std" if precision == "fp32" else "take --precision fp32"
            raise UserError(f"{title} gives features that are not finite in {precision}: {remedy}")
        return found

    return forward


def _compute(
    forward: Forward,
    stream: pipelines.Stream,
    shape: tuple[int, int],
    part: Path,
    facts: dict[str, Any],
    report: Report,
) -> None:
    """Fill a folder with the features of a stream, of `shape` V×views."""
    values, done = None, set[int]()
    for batch in stream.epoch():
        found = forward(batch.clip)
        if values is None:
            _check_rows(forward, batch.clip, found, facts["model"])
            values = store.allocate(part, (*shape, *found.shape[1:]), found.dtype)
        values[batch.video, batch.view] = found.cpu()
        done |= set(batch.video.tolist())
        report(Event(phase="features", done=len(done), total=shape[0]))
    if values is None:
        path, reason = next(iter(stream.skipped), ("the index", "holds no videos"))
        raise UserError(f"none of the videos could be read: {path}: {reason}")
    skipped = dict(zip(sorted({*range(shape[0])} - done), (one.reason for one in stream.skipped), strict=True))
    store.finish(part, values, skipped, facts)


def _check_rows(forward: Forward, clip: Tensor, features: Tensor, model: str) -> None:
    """Refuse features that mix the clips of a batch, as those of a network that puts frames before clips would."""
    alone, allowed = forward(clip[:1]), TOLERANCE * float(features.abs().max())
    if alone.shape[1:] != features.shape[1:] or float((alone - features[:1]).abs().max()) > allowed:
        raise UserError(
            f"features of {address.label(model)} mix the clips of a batch: give the network a method token_encoder(), "
            "which returns a module from clips to tokens N×L×width"
        )
