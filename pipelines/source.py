"""Samplers and the per-sample source: which video, which frames and crop boxes, and the file's bytes.

`EncodedSource` runs in DALI's worker processes, which import neither torch nor pandas. Everything random is
a pure function of (seed, epoch, row): another batch size or world size, or a resume mid-epoch, gives the same clips.
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
from ._files import Files, UnreadableVideo
from ._packets import excerpt
from ._video import reason
from ._workers import leave_signals_to_parent
from .augment import Augment, AugmentParams
from .transform import TrainTransform

PADDING = -1
MAX_SUBSTITUTES = 64  # videos tried in place of an unreadable one: enough even if almost half of an index is gone
# Around the message of a user's mistake. DALI hands a worker's exception on as the text of its traceback only.
MARKS = "[reelbench worker: ", " :reelbench worker]"


@dataclass(frozen=True, kw_only=True)
class SamplerState:
    """Which shard of the data a rank reads, and where it starts: at batch `batch` of epoch `epoch`.

    `batch` counts from 0, in batches of this rank. `seed` determines the shuffling and all other randomness of
    training. Raises UserError unless 0 <= rank < world.
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
class BatchSampler:
    """Which rows of the index make up each batch of a rank (the role of torch's `DistributedSampler`).

    `total` is the number of rows, `batch` the number of videos per batch and rank.

    Training: an epoch is a permutation, seeded by (seed, epoch), split into global batches of `batch * world` videos of
    which each rank takes its slice. So 1 rank with batch 8 and 2 ranks with batch 4 see the same global batches. The
    incomplete last batch is dropped. Testing: rank r takes rows r, r + world, …; every row exactly once.
    """

    total: int
    batch: int
    training: bool
    seed: int = 0
    rank: int = 0
    world: int = 1

    @property
    def batches(self) -> int:
        """Batches per epoch on this rank."""
        if self.training:
            return self.total // (self.batch * self.world)
        return -(-len(range(self.rank, self.total, self.world)) // self.batch)

    def rows(self, epoch: int, number: int) -> np.ndarray:
        """Return the rows of batch `number` of an epoch; only a test's last batch may be incomplete."""
        if self.training:
            start = (number * self.world + self.rank) * self.batch
            return _permutation(self.total, self.seed, epoch)[start : start + self.batch]
        return np.arange(self.rank, self.total, self.world)[number * self.batch : (number + 1) * self.batch]


@lru_cache(maxsize=2)
def _permutation(total: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng((seed, epoch)).permutation(total)


class ClipSpec(NamedTuple):
    """The clips to take from one video.

    `frames`: the distinct frames to decode, ascending (int32), from the video's first frame, which in a trimmed file is
    not the file's. `positions`: each clip's frames as indices into `frames` (int32, clips x T). `boxes`: crop boxes
    x0 y0 x1 y1 in pixels of the upright video (float32, boxes x 4). `flip`: 1 to mirror horizontally, else 0.
    `augment`: sampled augmentation parameters, if there is augmentation.
    """

    frames: np.ndarray
    positions: np.ndarray
    boxes: np.ndarray
    flip: int
    augment: AugmentParams | None = None


@dataclass(frozen=True, kw_only=True)
class ClipSampler:
    """Chooses frames, crop boxes, flip and augmentation of a video's clips; without a transform, for testing.

    With a transform, `views` is ignored. Raises UserError if the short side, or one of `short_sides`, is below `size`.
    """

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
        """Height and width of the clips, in pixels."""
        return self.clip.size if self.transform else self.views.size or self.clip.size

    @property
    def short_side(self) -> int:
        """Short side before the crop, in pixels, if it is not sampled from the transform's `short_sides`.

        Resize and crop are carried out as one resampling.
        """
        return self.clip.short_side if self.transform else self.views.short_side or self.clip.short_side

    @property
    def view_order(self) -> list[tuple[int, int, bool]]:
        """(box index, clip index, flipped) of each view: all clips of the first crop come first, as in MMAction2."""
        if self.transform:
            return [(0, 0, False)]
        crops = [(i // 2, bool(i % 2)) for i in range(10)] if self.views.crops == 10 else None
        crops = crops or [(i, False) for i in range(self.views.crops)]
        return [(box, clip, flipped) for box, flipped in crops for clip in range(self.views.clips)]

    def sample(self, total: int, size: tuple[int, int], epoch: int, row: int) -> ClipSpec:
        """Choose the clips of a video with `total` frames of `size` (width, height), upright and not yet resized.

        In training, `epoch` and `row` seed the random choices. `flip_keeps` is not considered here, but in
        `EncodedSource.clip_spec`.
        """
        rng = np.random.default_rng((self.seed, epoch, row))
        wanted = self._train_frames(total, rng) if self.transform else self._test_frames(total)
        frames, positions = np.unique(wanted, return_inverse=True)
        boxes = self._boxes(size, rng)
        flip = int(self.transform is not None and rng.random() < self.transform.flip)
        positions = positions.reshape(wanted.shape).astype(np.int32)
        params = self.augment.sample(rng, self.size) if self.augmented else None
        return ClipSpec(frames.astype(np.int32), positions, np.array(boxes, dtype=np.float32), flip, params)

    @property
    def augment(self) -> Augment:
        """The augmentation of training; in testing one that does nothing."""
        return self.transform.augment if self.transform else Augment()

    @property
    def augmented(self) -> bool:
        """Whether clips are augmented beyond crop and flip."""
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


class EncodedSource:
    """The callable of DALI's worker processes: `source(SampleInfo)` returns the arrays of one sample for the graph.

    In this order: the content (here the file's bytes and the frames to decode), positions, boxes, flip, row, the
    skipped videos (JSON of [row, reason] pairs, as bytes), with `corrects` the color correction, and with augmentation
    its parameters. The source starts at batch `batch` of epoch `epoch`.

    An unreadable video is skipped. Training substitutes another one, chosen by (seed, epoch, row). In testing a single
    frame is decoded to fill its place in the batch, and the row is `PADDING`; so is the rest of an incomplete batch.
    `undecodable` maps rows that made a decoder fail, crash or hang to the reason: they are skipped.

    With `excerpts` each file is reduced to the packets that its frames need; otherwise only large files are, and with
    `uncropped` those of which DALI's cache would find no NVDEC session again (see `_cropping`).
    """

    form: ClassVar[Literal["encoded", "decoded", "mixed"]] = "encoded"

    def __init__(
        self,
        files: Files,
        batch_sampler: BatchSampler,
        clip_sampler: ClipSampler,
        epoch: int = 0,
        batch: int = 0,
        *,
        excerpts: bool = False,
        uncropped: bool = False,
        corrects: bool = False,
        undecodable: dict[int, str] | None = None,
    ) -> None:
        self.files, self.batch_sampler, self.clip_sampler = files, batch_sampler, clip_sampler
        self.start = epoch, batch
        self.excerpts, self.uncropped, self.corrects = excerpts, uncropped, corrects
        self.undecodable = undecodable or {}

    def __call__(self, info: Any) -> tuple[np.ndarray, ...]:
        """Return one sample. Raises StopIteration at the end of a test; training continues with the next epoch.

        Raises UserError, its message between `MARKS`, if no substitute is readable.
        """
        epoch, number = self.position(info.iteration)
        rows = self.batch_sampler.rows(epoch, number)
        padding = info.idx_in_batch >= len(rows)
        sample = int(rows[0 if padding else info.idx_in_batch])
        skipped: list[tuple[int, str]] = []
        for row in self._with_substitutes(epoch, sample):
            padding = padding or (row != sample and not self.batch_sampler.training)
            try:
                spec = self.clip_spec(epoch, sample, row)
                if padding:
                    spec = spec._replace(frames=spec.frames[:1], positions=np.zeros_like(spec.positions))
                content, boxes = self.content(row, spec)
            except Exception as error:  # noqa: BLE001 (whatever a file does to a library costs that file, not the run)
                skipped.append((row, reason(error)))
                continue
            skipped_json = np.frombuffer(json.dumps(skipped).encode(), np.uint8)
            row_shown = np.array(PADDING if padding else row, np.int64)
            rest = spec.positions, boxes, np.array(spec.flip, np.int32), row_shown, skipped_json
            correction = (self.correction(row),) if self.corrects else ()
            augment = self.clip_sampler.augment.used(spec.augment) if spec.augment else ()
            return *content, *rest, *correction, *augment
        row, why = skipped[0]
        message = (
            f"{self.files.path(row)}: {why}, the first of {len(skipped)} unreadable videos in a row: is the disk "
            "there? `reelbench data check` lists them"
        )
        raise UserError(message.join(MARKS))

    def clip_spec(self, epoch: int, sample: int, row: int) -> ClipSpec:
        """Return the clips to take from `row`, which is `sample` itself or a substitute for it.

        A video with a label in `flip_keeps` is not flipped.
        """
        spec = self.clip_sampler.sample(self.files.frames(row), self.files.size(row), epoch, sample)
        transform = self.clip_sampler.transform
        if spec.flip and transform and not set(transform.flip_keeps).isdisjoint(self.files.labels(row).tolist()):
            return spec._replace(flip=0)
        return spec

    def _with_substitutes(self, epoch: int, sample: int) -> Iterator[int]:
        """Yield the sample's own row, then its substitutes."""
        yield sample
        rng = np.random.default_rng((self.batch_sampler.seed, epoch, sample, MAX_SUBSTITUTES))
        total = len(self.files)
        yield from (int(row) for row in rng.choice(total, min(total, MAX_SUBSTITUTES), replace=False) if row != sample)

    def position(self, iteration: int) -> tuple[int, int]:
        """Return (epoch, batch) of the n-th batch since the start. Raises StopIteration at the end of a test."""
        number = self.start[1] + iteration
        if self.batch_sampler.training:
            return self.start[0] + number // self.batch_sampler.batches, number % self.batch_sampler.batches
        if number >= self.batch_sampler.batches:
            raise StopIteration
        return self.start[0], number

    def content(self, row: int, spec: ClipSpec) -> tuple[tuple[np.ndarray, ...], np.ndarray]:
        """Return a video's arrays for the DALI graph, here the encoded file, and the boxes in their coordinates.

        Raises UnreadableVideo if the file cannot be read or is not the one that was indexed.
        """
        content, frames = self.fetch(row, spec)
        coded = self.files.uncropped_size(row) if self.uncropped else None
        if isinstance(content, Path) or coded or (self.excerpts and not self.files.is_folder(row)):
            content, frames = excerpt(content, self.files.stream(row), frames, *self.files.times(row), coded=coded)
        return (content, frames), spec.boxes

    def correction(self, row: int) -> np.ndarray:
        """Return the matrix (3 x 3) from the RGB of DALI's decoder to the RGB that the file's color tags mean."""
        return correction(self.files.color_matrix(row))

    def fetch(self, row: int, spec: ClipSpec) -> tuple[np.ndarray | Path, np.ndarray]:
        """Return the file of a row (as `Files.fetch`) and the numbers in it of the clips' frames.

        Raises UnreadableVideo if the file cannot be read, has changed, or is one of the `undecodable`.
        """
        if row in self.undecodable:
            raise UnreadableVideo(self.undecodable[row])
        return self.files.fetch(row, spec.frames + np.int32(self.files.offset(row)))

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Unpickle in a worker process, which from then on ends with its parent and leaves signals to it."""
        self.__dict__.update(state)
        leave_signals_to_parent()
