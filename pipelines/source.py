"""From a place in an epoch to one sample: which video, which frames, which boxes, and the file's bytes.

`Source` runs in DALI's worker processes, which import neither torch nor pandas. Every draw is a pure function of
(seed, epoch, row), so that another batch size, another world size and a resume in mid-epoch see the same clips.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np

from ..errors import UserError
from ..spec import Clip, Views
from . import clips
from ._colors import correction
from ._files import Broken, Files
from ._packets import excerpt
from ._workers import leave_signals_to_parent
from .augment import Augment, Look
from .transform import TrainTransform

PADDING = -1
SPARES = 64  # videos that are tried in place of a broken one: enough where almost half of an index is gone


@dataclass(frozen=True, kw_only=True)
class Sampler:
    """Whose turn it is: `rank` of `world` shares an epoch out, beginning with batch `batch` of epoch `epoch`.

    `seed` is that of the order and of every draw in training.
    """

    seed: int = 0
    rank: int = 0
    world: int = 1
    epoch: int = 0
    batch: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.world:
            raise UserError(f"rank={self.rank} must lie in 0..{self.world - 1} (world={self.world})")


@dataclass(frozen=True, kw_only=True)
class Order:
    """Which rows of the index a rank sees, batch by batch.

    Training: an epoch is a permutation f(seed, epoch), cut into global batches of `batch * world`, and each rank
    takes its slice of every one, so 1 rank of 8 and 2 ranks of 4 see the same global batches. The incomplete last one
    is dropped. Testing: rank r takes rows r, r + world, …; every row exactly once.
    """

    total: int
    batch: int
    training: bool
    seed: int = 0
    rank: int = 0
    world: int = 1

    @property
    def batches(self) -> int:
        """Batches of this rank in an epoch."""
        if self.training:
            return self.total // (self.batch * self.world)
        return -(-len(range(self.rank, self.total, self.world)) // self.batch)

    def rows(self, epoch: int, number: int) -> np.ndarray:
        """Return the rows of one batch; only the last batch of a test may be short."""
        if self.training:
            start = (number * self.world + self.rank) * self.batch
            return _permutation(self.total, self.seed, epoch)[start : start + self.batch]
        return np.arange(self.rank, self.total, self.world)[number * self.batch : (number + 1) * self.batch]


@lru_cache(maxsize=2)
def _permutation(total: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng((seed, epoch)).permutation(total)


class Cut(NamedTuple):
    """What is cut out of one video.

    `frames` are the distinct frames to decode, in order (int32); `positions` (int32, clips x T) point into them;
    `boxes` (float32, boxes x 4) are x0 y0 x1 y1 in the source's pixels; `flip` is 0 or 1. `look` is the augmentation.
    """

    frames: np.ndarray
    positions: np.ndarray
    boxes: np.ndarray
    flip: int
    look: Look | None = None


@dataclass(frozen=True, kw_only=True)
class Cutter:
    """How clips are cut out of videos: by a transform for training, without one for testing, by views."""

    clip: Clip
    views: Views = Views()
    transform: TrainTransform | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.short_side < self.size:
            raise UserError(f"views: short_side={self.short_side} is below size={self.size}")
        short_sides = self.transform and self.transform.short_sides
        if short_sides and not self.size <= short_sides[0] <= short_sides[1]:
            raise UserError(f"short_sides={short_sides} must be two ascending numbers from size={self.size} on")

    @property
    def size(self) -> int:
        """The side of a finished clip, in pixels."""
        return self.clip.size if self.transform else self.views.size or self.clip.size

    @property
    def short_side(self) -> int:
        """The short side to which a picture is thought to be resized before the crop."""
        return self.clip.short_side if self.transform else self.views.short_side or self.clip.short_side

    @property
    def plan(self) -> list[tuple[int, int, bool]]:
        """The (box, clip, flipped) of every view, crop-major and then by clip: the official order."""
        if self.transform:
            return [(0, 0, False)]
        crops = [(i // 2, bool(i % 2)) for i in range(10)] if self.views.crops == 10 else None
        crops = crops or [(i, False) for i in range(self.views.crops)]
        return [(box, clip, flipped) for box, flipped in crops for clip in range(self.views.clips)]

    def cut(self, total: int, size: tuple[int, int], epoch: int, row: int) -> Cut:
        """Return the cut of a video of `total` frames of `size` (width, height)."""
        rng = np.random.default_rng((self.seed, epoch, row))
        wanted = self._train_frames(total, rng) if self.transform else self._test_frames(total)
        frames, positions = np.unique(wanted, return_inverse=True)
        boxes = self._boxes(size, rng)
        flip = int(self.transform is not None and rng.random() < self.transform.flip)
        positions = positions.reshape(wanted.shape).astype(np.int32)
        look = self.augment.draw(rng, self.size) if self.augmented else None
        return Cut(frames.astype(np.int32), positions, np.array(boxes, dtype=np.float32), flip, look)

    @property
    def augment(self) -> Augment:
        """What draws a cut's look; nothing in testing."""
        return self.transform.augment if self.transform else Augment()

    @property
    def augmented(self) -> bool:
        """Whether a cut has a look."""
        return self.augment.active

    def _train_frames(self, total: int, rng: np.random.Generator) -> np.ndarray:
        length, stride, beyond = self.clip.frames, self.clip.stride, self.clip.out_of_bound
        match self.clip.sampling:
            case "uniform":
                return clips.uniform_random(total, length, rng.integers)
            case "segments":
                starts = clips.random_starts(total, 1, length, rng.integers)
                return clips.frames_at(starts, 1, 1, total, beyond).reshape(1, length)
            case "window":
                return clips.window(total, length, stride, draw=rng.integers)
            case "dense_64":
                return clips.dense_sample(total, length, draw=rng.integers)
        starts = clips.random_starts(total, length * stride, 1, rng.integers)
        return clips.frames_at(starts, length, stride, total, beyond)

    def _test_frames(self, total: int) -> np.ndarray:
        length, stride, count, beyond = self.clip.frames, self.clip.stride, self.views.clips, self.clip.out_of_bound
        match self.clip.sampling:
            case "uniform":
                return clips.uniform_even(total, length, count)
            case "segments":
                return clips.segments_even(total, length, count)
            case "window":
                return clips.window(total, length, stride, count)
            case "dense_64":
                return clips.dense_sample(total, length, count)
            case "dense_middle":
                starts = clips.middle_starts(total, length * stride, count)
            case _:
                starts = clips.even_starts(total, length, stride, count)
        return clips.frames_at(starts, length, stride, total, beyond)

    def _boxes(self, source: tuple[int, int], rng: np.random.Generator) -> list[clips.Box]:
        short_side = self.short_side
        if self.transform and self.transform.short_sides:
            short_side = int(rng.integers(*self.transform.short_sides, endpoint=True))
        resized = clips.rescale(*source, short_side)
        found = [self._train_box(resized, self.transform, rng)] if self.transform else self._test_boxes(resized)
        return [clips.in_source(box, resized, source) for box in found]

    def _train_box(self, resized: tuple[int, int], transform: TrainTransform, rng: np.random.Generator) -> clips.Box:
        if transform.crop == "random_resized":
            return clips.random_resized_crop(*resized, rng, transform.crop_area)
        if transform.crop == "multi_scale":
            return clips.multi_scale_crop(*resized, self.size, rng.integers)
        if transform.crop == "random":
            return clips.random_crop(*resized, self.size, rng.integers)
        return clips.center_crop(*resized, self.size)[0]

    def _test_boxes(self, resized: tuple[int, int]) -> list[clips.Box]:
        rules = {1: clips.center_crop, 3: clips.three_crop, 10: clips.ten_crop}
        return rules[self.views.crops](*resized, self.size)


class Source:
    """The callable that DALI's workers run: `source(SampleInfo)` returns the arrays of one sample.

    They are the content (here the file's bytes and the frames to decode), then positions, boxes, flip, row, what was
    found broken: JSON of [row, reason] pairs, as bytes, the matrix that corrects the decoder's colors, if the source
    `corrects`, and the look, if the cutter augments. The row is `PADDING` where a single frame is decoded only to fill
    the batch: at the end of a test, and in place of a video that is broken. In training another video stands in for a
    broken one, drawn by (seed, epoch, row). `barred` maps the rows that brought a decoder down to the reason.

    With `excerpts` every file is cut down to the packets that the frames need; otherwise only large ones are.
    """

    form: ClassVar[Literal["encoded", "decoded", "mixed"]] = "encoded"

    def __init__(
        self,
        files: Files,
        order: Order,
        cutter: Cutter,
        epoch: int = 0,
        batch: int = 0,
        *,
        excerpts: bool = False,
        corrects: bool = False,
        barred: dict[int, str] | None = None,
    ) -> None:
        self.files, self.order, self.cutter = files, order, cutter
        self.start = epoch, batch
        self.excerpts, self.corrects, self.barred = excerpts, corrects, barred or {}

    def __call__(self, info: Any) -> tuple[np.ndarray, ...]:
        """Return one sample; `StopIteration` ends a test. Training runs on into the next epoch."""
        epoch, number = self.place(info.iteration)
        rows = self.order.rows(epoch, number)
        padding = info.idx_in_batch >= len(rows)
        sample = int(rows[0 if padding else info.idx_in_batch])
        broken: list[tuple[int, str]] = []
        for row in self._candidates(epoch, sample):
            padding = padding or (row != sample and not self.order.training)
            cut = self.cut(epoch, sample, row)
            if padding:
                cut = cut._replace(frames=cut.frames[:1], positions=np.zeros_like(cut.positions))
            try:
                content, boxes = self.content(row, cut)
            except Broken as error:
                broken.append((row, str(error)))
                continue
            said = np.frombuffer(json.dumps(broken).encode(), np.uint8)
            row_shown = np.array(PADDING if padding else row, np.int64)
            rest = cut.positions, boxes, np.array(cut.flip, np.int32), row_shown, said
            correction = (self.correction(row),) if self.corrects else ()
            return (*content, *rest, *correction, *(self.cutter.augment.needed(cut.look) if cut.look else ()))
        row, reason = broken[0]
        raise UserError(
            f"{self.files.path(row)}: {reason}, and so on for {len(broken)} videos in a row: "
            "is the disk there? `reelbench data check` lists what is broken"
        )

    def cut(self, epoch: int, sample: int, row: int) -> Cut:
        """Return how a row is cut when it is shown as a sample of an epoch: its own, or one that it stands in for."""
        cut = self.cutter.cut(self.files.frames(row), self.files.size(row), epoch, sample)
        transform = self.cutter.transform
        if cut.flip and transform and not set(transform.flip_keeps).isdisjoint(self.files.labels(row).tolist()):
            return cut._replace(flip=0)
        return cut

    def _candidates(self, epoch: int, sample: int) -> Iterator[int]:
        """Yield the sample's own row, then those that may stand in for it."""
        yield sample
        rng = np.random.default_rng((self.order.seed, epoch, sample, SPARES))
        total = len(self.files)
        yield from (int(row) for row in rng.choice(total, min(total, SPARES), replace=False) if row != sample)

    def place(self, iteration: int) -> tuple[int, int]:
        """Return the (epoch, batch) of the n-th batch since the start."""
        number = self.start[1] + iteration
        if self.order.training:
            return self.start[0] + number // self.order.batches, number % self.order.batches
        if number >= self.order.batches:
            raise StopIteration
        return self.start[0], number

    def content(self, row: int, cut: Cut) -> tuple[tuple[np.ndarray, ...], np.ndarray]:
        """Return what the graph gets of a video, and the boxes in its pixels; `Broken` says why there is nothing.

        Here it is the file, still encoded.
        """
        content, frames = self.fetch(row, cut)
        if isinstance(content, Path) or (self.excerpts and not self.files.is_folder(row)):
            content, frames = excerpt(content, self.files.stream(row), frames, *self.files.times(row))
        return (content, frames), cut.boxes

    def correction(self, row: int) -> np.ndarray:
        """Return what turns the colors of the decoder in the graph into those of the file's tags (3 x 3)."""
        return correction(self.files.color_matrix(row))

    def fetch(self, row: int, cut: Cut) -> tuple[np.ndarray | Path, np.ndarray]:
        """Return a row's file, and the cut's frames in it."""
        if row in self.barred:
            raise Broken(self.barred[row])
        return self.files.fetch(row, cut.frames + np.int32(self.files.offset(row)))

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Arrive in a worker process: from now on it ends when its parent does, and leaves signals to it."""
        self.__dict__.update(state)
        leave_signals_to_parent()
