"""Certify decoders against the slow reference: the same frames, PSNR of the pixels, and the effect on top-1.

    reelbench data certify k400_val.parquet --model video_swin/t --checkpoint swin_tiny.pth

A frame is right if it is nearer to the reference's frame of that number than to either neighbor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from av.error import FFmpegError
from torch import Tensor

from ... import models, pipelines
from ...errors import UserError
from ...pipelines import reference
from ...pipelines._encode import CODECS
from ...pipelines.index import Index, SkippedVideo, Video, build, from_videos
from ...pipelines.source import ClipSampler, ClipSpec
from ...spec import Clip
from ..measuring.accuracy import evaluate, scores
from . import chart
from .bench import Decoder, Device

CLIP = Clip(frames=8, sampling="segments", mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
IDENTICAL = 99.0  # PSNR in dB reported for identical pixels
ALIKE = 45.0  # least PSNR in dB of two charts with the same colors: a little more than one gray level apart


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """One decoder's result on one codec: correct frames (`right`) of `frames`; `psnr` in dB, worst clip and median.

    PSNR is at most 99 dB (`IDENTICAL`). `videos` counts those that were compared; without any, PSNR is 0. `skipped` are
    those that the decoder, or the reference, could not read.
    """

    codec: str
    decoder: Decoder
    videos: int
    frames: int
    right: int
    psnr: tuple[float, float]
    skipped: tuple[SkippedVideo, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """A checkpoint's accuracy with one decoder: top-1, or mAP of a multi-label set, in percent.

    `changed` videos are predicted unlike with the first decoder: another class, or for a multi-label set other classes
    of a score above 0.5.
    """

    decoder: Decoder
    metric: str
    value: float
    videos: int
    changed: int


def certify(
    index: Index, *, device: Device, videos: int, workers: int, report: Callable[[str], None]
) -> tuple[Certificate, ...]:
    """Compare every available decoder with the reference on up to `videos` evenly spaced videos of each codec."""
    found = []
    for codec in dict.fromkeys(index.table["codec"]):
        rows = np.flatnonzero((index.table["codec"] == codec).to_numpy(dtype=bool))
        chosen = rows[np.linspace(0, len(rows) - 1, min(videos, len(rows))).astype(int)]
        some = replace(from_videos([index[int(row)] for row in chosen], index.classes, index.root,
                                   multi_label=index.multi_label), metric=index.metric)  # fmt: skip
        for decoder in pipelines.decoders(some, device):
            report(f"{codec}, {decoder}")
            found.append(_certify(some, codec, decoder, device, workers))
    return tuple(found)


def certify_colors(
    index: Index, *, device: Device, workers: int, report: Callable[[str], None]
) -> tuple[Certificate, ...]:
    """Compare every decoder with the reference on a color chart, for each codec, color tags and odd size of the index.

    Formats that PyAV cannot encode, such as folders of frames, and color matrices that swscale lacks are skipped.
    """
    found = []
    odd = [(width | height) % 2 == 1 and codec in chart.ODD for width, height, codec in
           zip(*(index.table[name] for name in ("width", "height", "codec")), strict=True)]  # fmt: skip
    kinds = zip(*(index.table[name] for name in ("codec", "color_matrix", "color_range")), odd, strict=True)
    with TemporaryDirectory() as folder:
        for codec, matrix, extent, is_odd in dict.fromkeys(kinds):
            if codec not in CODECS or matrix not in chart.SWSCALE:
                continue
            name = f"{codec} {matrix} {extent}{' odd size' * is_odd}"
            path = chart.film(Path(folder, name + CODECS[codec].suffix), codec, matrix, extent, is_odd)
            made = build([(path, 0)], ("chart",), folder, workers=0, progress=False)
            for decoder in pipelines.decoders(made, device):
                report(f"{name}, {decoder}")
                found.append(_certify(made, name, decoder, device, workers))
    return tuple(found)


def _certify(index: Index, codec: str, decoder: Decoder, device: Device, workers: int) -> Certificate:
    clip_sampler = ClipSampler(clip=CLIP)
    right = frames = 0
    decibels: list[float] = []
    skipped: list[SkippedVideo] = []
    with (
        pipelines.open(index, clip=CLIP, batch=1, device=device, decoder=decoder, workers=workers) as stream,
        _noted(skipped, codec),
    ):
        for batch in stream.epoch():
            row = int(batch.video)
            spec = clip_sampler.sample(index[row].frames, upright(index[row]), 0, row)
            shown = batch.clip[0].permute(1, 2, 3, 0).cpu().numpy()
            try:
                wanted, nearest = _compare(shown, index[row], spec, clip_sampler.size)
            except (FFmpegError, IndexError, ValueError) as error:
                skipped.append(SkippedVideo(str(index[row].path), f"the reference cannot decode it: {error}"))
                continue
            frames, right = frames + len(nearest), right + int(nearest.sum())
            error = float(np.mean((shown - wanted) ** 2))
            decibels.append(min(IDENTICAL, 10 * np.log10(255**2 / error)) if error else IDENTICAL)
        skipped += stream.skipped
    return Certificate(
        codec=codec, decoder=decoder, videos=len(decibels), frames=frames, right=right,
        psnr=(min(decibels, default=0.0), float(np.median(decibels)) if decibels else 0.0), skipped=tuple(skipped),
    )  # fmt: skip


@contextmanager
def _noted(skipped: list[SkippedVideo], codec: str) -> Iterator[None]:
    """Add what ends a stream, as when none of its videos can be read, to `skipped`: other codecs still follow."""
    try:
        yield
    except UserError as error:
        skipped.append(SkippedVideo(codec, str(error)))


def upright(video: Video) -> tuple[int, int]:
    """Return a video's displayed (width, height), rotation applied."""
    return (video.height, video.width) if video.rotation % 180 else (video.width, video.height)


def _compare(shown: np.ndarray, video: Video, spec: ClipSpec, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the reference's clip (T H W 3, whole gray levels), and for each frame whether it is the right one."""
    everything = reference.decode(video.path, video.stream, video.rotation, video.flipped)
    everything = everything[video.offset : video.offset + video.frames]
    numbers = spec.frames[spec.positions[0]]
    beside = [np.clip(numbers + step, 0, len(everything) - 1) for step in (0, -1, 1)]
    own, before, after = (np.rint(reference.resample(everything[n], spec.boxes[0], size)) for n in beside)
    distance = [np.abs(shown - pictures).mean(axis=(1, 2, 3)) for pictures in (own, before, after)]
    return own, distance[0] <= np.minimum(distance[1], distance[2])


def compare_accuracy(
    index: Index,
    model: str,
    checkpoint: Path | Mapping[str, Tensor],
    *,
    device: Device,
    workers: int,
    report: Callable[[str], None],
) -> tuple[Verdict, ...]:
    """Evaluate a checkpoint, a file or a state dict, with each decoder, under the model's own clip and views."""
    variant, place = models.find(model), torch.device(device)
    network = models.build(model, num_classes=len(index.classes)).to(place).eval()
    report(str(models.load_checkpoint(network, checkpoint)))
    found: list[Verdict] = []
    first: Tensor | None = None
    for decoder in pipelines.decoders(index, device):
        report(f"{model}, {decoder}")
        with pipelines.open(
            index,
            clip=models.choose_clip(model, None),
            views=variant.views,
            batch=4,
            device=device,
            decoder=decoder,
            workers=workers,
        ) as stream:
            predictions = evaluate(network, stream)
        predicted = predictions.score > 0.5 if index.multi_label else predictions.score.argmax(1, keepdim=True)
        first = predicted if first is None else first
        metric = "map" if index.multi_label else "top1"
        value = scores(predictions, len(index.classes), str(variant.views))[metric].value
        changed = int((predicted != first).any(1).sum())
        found.append(Verdict(decoder=decoder, metric=metric, value=value, videos=len(predicted), changed=changed))
    return tuple(found)
