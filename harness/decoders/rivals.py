"""Benchmark other libraries' decoders like ours: the same files, frames, crop boxes and sizes (see `pipelines.rivals`).

Before timing, a library's frames are compared with the slow reference's: one that returns other frames may be fast for
that reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from types import ModuleType

import numpy as np
import torch

from ...pipelines import reference, rivals
from ...pipelines.index import Index
from ...pipelines.source import BatchSampler, ClipSampler
from ...pipelines.transform import TrainTransform
from ...spec import Clip
from .bench import BATCH, CLIPS, Device, Speed, drain

CHECKED = 4  # videos, evenly spread
CHECK = Clip(frames=8, sampling="segments")


def bench(
    index: Index, *, device: Device, workers: int, seconds: float, report: Callable[[str], None],
    measured: Callable[[Speed], None] = lambda speed: None,
) -> tuple[tuple[Speed, ...], tuple[str, ...]]:  # fmt: skip
    """Measure every installed library with `workers` threads, for `seconds` with each sampling of `CLIPS`.

    `report` receives the name of each measurement, `measured` what it found. Also returns a message per library that
    failed or is not installed.
    """
    found: list[Speed] = []
    missing: list[str] = []
    for name, module in rivals.find(device).items():
        try:
            module.reader(device)
            report(f"frames, {name}")
            same = identical(index, module.reader(device))
            for sampling in CLIPS:
                report(f"{sampling}, {name}")
                found.append(_speed(index, sampling, name, module, same, device, workers, seconds))
                measured(found[-1])
        except ImportError as error:
            missing.append(_missing(module, error))
        except Exception as error:  # another library may raise anything: skip only that library
            missing.append(f"{module.PACKAGE} cannot decode this here: {' '.join(str(error).split())[:300]}")
    return tuple(found), tuple(missing)


def _missing(module: ModuleType, error: ImportError) -> str:
    if isinstance(error, ModuleNotFoundError):
        return f"{module.PACKAGE} is not installed: `pip install {module.PACKAGE}` to compare with it"
    return f"{module.PACKAGE} does not import: {' '.join(str(error).split())[:300]}"


def identical(index: Index, read: rivals.Reader) -> tuple[int, int]:
    """Return (correct frames, checked frames) of a reader, on up to `CHECKED` videos of the index.

    A frame is right if no neighbor of the reference's frame of that number is nearer to it; one of another size, for
    example without the video's rotation, is wrong.
    """
    right = total = 0
    clip_sampler = ClipSampler(clip=CHECK)
    for row in np.unique(np.linspace(0, len(index) - 1, min(CHECKED, len(index))).astype(int)):
        video = index[int(row)]
        numbers = clip_sampler.sample(video.frames, (video.width, video.height), 0, int(row)).frames + video.offset
        shown = read(video, numbers).cpu().numpy()
        right += _right(shown, reference.decode(video.path, video.stream, video.rotation, video.flipped), numbers)
        total += len(numbers)
    return right, total


def _right(shown: np.ndarray, everything: np.ndarray, numbers: np.ndarray) -> int:
    if shown.shape[1:] != everything.shape[1:]:
        return 0  # another size, or rotation not applied
    own, before, after = (
        np.abs(shown.astype(np.int16) - everything[np.clip(numbers + step, 0, len(everything) - 1)]).mean((1, 2, 3))
        for step in (0, -1, 1)
    )
    return int((own <= np.minimum(before, after)).sum())


def _speed(
    index: Index, sampling: str, name: str, module: ModuleType, same: tuple[int, int],
    device: Device, workers: int, seconds: float,
) -> Speed:  # fmt: skip
    clip, batch = CLIPS[sampling], min(BATCH[device], len(index))
    batch_sampler = BatchSampler(total=len(index), batch=batch, training=True)
    clip_sampler = ClipSampler(clip=clip, transform=TrainTransform())
    made = rivals.batches(index, clip_sampler, batch_sampler, lambda: module.reader(device), workers)
    with closing(made) as batches, _one_thread():
        sizes = (len(clips) for clips in batches)
        return drain(
            sizes, index, sampling, name, device=device, workers=f"{workers} threads", seconds=seconds, same=same
        )


@contextmanager
def _one_thread() -> Iterator[None]:
    """Limit torch to one thread: the cores belong to the decoding threads, each of which resizes its own clips."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
