"""Videos drawn from a grammar: every way of showing them gives the pictures of a full decode, by PyAV and by FFmpeg.

REELBENCH_DRAWS=5000 draws more, REELBENCH_SEED=1 others; a failure names each draw, which `build` makes again.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import av
import numpy as np
import pytest
from av.error import FFmpegError
from reelbench import pipelines
from reelbench.pipelines import check
from reelbench.pipelines._files import Files
from reelbench.pipelines.decoder_choice import supported
from reelbench.pipelines.index import Index, UnreadableVideo, Video, from_videos, scan
from reelbench.pipelines.software import DecodedSource
from reelbench.pipelines.source import BatchSampler, ClipSampler, ClipSpec, EncodedSource
from reelbench.spec import Clip, Views

from . import numbered
from .grammar import Draw, build, draw

DRAWS, SEED = (int(os.environ.get(f"REELBENCH_{name}", usual)) for name, usual in (("DRAWS", 300), ("SEED", 0)))
PARTS = 2  # of the draws, for as many processes
INPUTS = 25  # files for one process of FFmpeg
SIDE = 48
CLIP = Clip(frames=4, sampling="segments", size=SIDE, short_side=SIDE, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
FAR = 40  # gray levels between a cell that is right and one that is not
OTHER_COLOR = 50


@dataclass
class Drawn:
    """A drawn file, the cells of what a full decode shows, the index's record, and what is first found wrong."""

    draw: Draw
    path: Path
    cells: np.ndarray
    video: Video | None = None
    wrong: str = ""

    def blame(self, what: str) -> None:
        self.wrong = self.wrong or what

    def compare(self, found: np.ndarray, frames: np.ndarray, way: str) -> None:
        """Compare cells with those of some frames of the full decode, and the colors of corners with the drawn ones."""
        wanted, shown = numbered.gray(self.cells[frames]), numbered.gray(found)
        for frame, right, mine in zip(frames.tolist(), wanted, shown, strict=True):
            if np.abs(right - mine).max() > FAR:
                self.blame(f"{way}: frame {frame} shows {numbered.number(mine)}, not {numbered.number(right)}")
        plain = [numbered.number(right) >= 0 and self.draw.clean for right in wanted]
        off = np.abs(numbered.corners(found)[plain] - numbered.COLORS)
        if off.size and off.max() > OTHER_COLOR:
            self.blame(f"{way}: colors {off.max():.0f} levels off")


def full_decode(path: Path) -> np.ndarray:
    """Return the cells of all pictures that a decoder shows, whatever fails between them; none of what is no video."""
    found = []
    with suppress(FFmpegError), av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        for frame in _frames(container, stream):
            rgb = frame.to_ndarray(format="rgb24")
            found.append(numbered.read(rgb[None], (frame.width, frame.height)))
    return np.concatenate(found) if found else np.zeros((0, 12, 3))


def _frames(container: av.container.InputContainer, stream: av.VideoStream) -> Iterator[av.VideoFrame]:
    for packet in container.demux(stream):
        try:
            yield from packet.decode()
        except FFmpegError:
            continue


def upright_to_stored(pictures: np.ndarray, turn: tuple[int, int, int, int]) -> np.ndarray:
    """Return pictures F x H x W x 3 as they were before the matrix (a b c d) put (x, y) at (a x + c y, b x + d y)."""
    a, b, c, d = turn
    if a:
        return pictures[:, ::d, ::a]
    return pictures[:, ::b, ::c].swapaxes(1, 2)


def index_of(drawn: list[Drawn], root: Path) -> Index:
    return from_videos([one.video for one in drawn if one.video], ("a",), root)


def describe(one: Drawn) -> None:
    """Index a file, and compare number and duration of its pictures."""
    try:
        one.video = scan(one.path, 0)
    except UnreadableVideo as error:
        if len(one.cells):
            one.blame(f"refused: {error}")
        return
    if one.video.frames != len(one.cells):
        one.blame(f"{one.video.frames} frames indexed, {len(one.cells)} are shown")
    elif one.draw.fps and one.video.frames > 2:  # of two with one time nothing tells it
        seconds, step = one.video.frames / one.draw.fps, 1 / one.draw.fps
        if abs(one.video.duration - seconds) > 2.5 * step + 0.002:
            one.blame(f"lasts {one.video.duration:.3f} s, not {float(seconds):.3f}")


def ways(frames: int, rng: random.Random) -> dict[str, np.ndarray]:
    """Return which frames to show together: all, some excerpts, some alone."""
    first = rng.randrange(frames)
    found = {"all": np.arange(frames), "excerpt": np.arange(first, min(first + 3, frames))}
    found["sparse"] = np.array(sorted(rng.sample(range(frames), min(3, frames))))
    return found | {f"frame {n} alone": np.array([n]) for n in {0, frames - 1, rng.randrange(frames)}}


def show_in_software(one: Drawn, row: int, source: DecodedSource) -> None:
    assert one.video is not None
    width, height = source.files.size(row)
    box = np.array([[0, 0, width, height]], np.float32)
    for way, frames in ways(len(one.cells), random.Random(str(one.draw))).items():
        spec = ClipSpec(frames.astype(np.int32), np.arange(len(frames), dtype=np.int32)[None], box, 0)
        try:
            (pictures,), _ = source.content(row, spec)
        except Exception as error:  # noqa: BLE001 (whatever it is, this draw has found it)
            one.blame(f"software, {way}: {type(error).__name__}: {error}")
            continue
        stored = upright_to_stored(pictures, one.draw.turn)
        one.compare(numbered.read(stored, (stored.shape[2], stored.shape[1])), frames, f"software, {way}")


def show_excerpts(one: Drawn, row: int, source: EncodedSource) -> None:
    """Compare the files of a few packets, made for DALI, as a decoder shows them from their start."""
    for way, frames in ways(len(one.cells), random.Random(str(one.draw))).items():
        spec = ClipSpec(frames.astype(np.int32), np.zeros((1, 1), np.int32), np.zeros((1, 4), np.float32), 0)
        (content, numbers), _ = source.content(row, spec)
        path = one.path.with_name("excerpt")
        path.write_bytes(content.tobytes())
        shown = full_decode(path)
        if len(shown) <= numbers.max():
            one.blame(f"excerpt, {way}: shows {len(shown)} pictures, number {numbers.max()} is wanted")
        elif np.abs(numbered.gray(shown[numbers]) - numbered.gray(one.cells[frames])).max() > FAR:
            one.blame(f"excerpt, {way}: shows other pictures")


def show_clips(drawn: list[Drawn], index: Index) -> None:
    """Compare a clip of each file, as a test shows it, decoded by DALI where it can."""
    sampler = ClipSampler(clip=CLIP, views=Views())
    with pipelines.open(index, clip=CLIP, batch=10, decoder="dali", workers=1) as stream:
        batches = list(stream.epoch())
    skipped = {Path(video.path).name: video.reason for video in stream.skipped}
    clips = {int(row): clip for batch in batches for row, clip in zip(batch.video, batch.clip, strict=True)}
    for row, one in enumerate(drawn):
        if row not in clips:
            one.blame(f"clip: skipped: {skipped.get(one.path.name, 'without a word')}")
            continue
        video = index[row]
        size = (video.height, video.width) if video.rotation % 180 else (video.width, video.height)
        spec = sampler.sample(video.frames, size, 0, row)
        pictures = upright_to_stored(clips[row].permute(1, 2, 3, 0).numpy(), one.draw.turn)
        frames = spec.frames[spec.positions[0]]
        one.compare(numbered.read(pictures, one.draw.size), frames, "clip")


def ask_ffmpeg(drawn: list[Drawn], folder: Path) -> None:
    """Compare the full decode with what FFmpeg's command line shows: of many files at once, unless one fails."""
    command = ["ffmpeg", "-v", "quiet", "-y"]
    for one in drawn:
        command += ["-noautorotate", "-i", str(one.path)]
    for number in range(len(drawn)):
        command += ["-map", f"{number}:v:0", "-fps_mode", "drop", "-pix_fmt", "rgb24", "-f", "rawvideo",
                    str(folder / f"{number}.raw")]  # fmt: skip
    same = _libavcodec() == av.library_versions["libavcodec"][0]  # else they differ in what is shown after a cut
    ended = subprocess.run(command, check=False, timeout=300, stdin=subprocess.DEVNULL)
    if ended.returncode and len(drawn) > 1:
        for one in drawn:
            ask_ffmpeg([one], folder)
        return
    for number, one in enumerate(drawn):
        if not (same or one.draw.whole):
            continue
        width, height = one.draw.size
        raw = folder / f"{number}.raw"
        shown = np.fromfile(raw, np.uint8) if raw.exists() else np.zeros(0, np.uint8)
        if shown.size % (width * height * 3):
            one.blame(f"FFmpeg shows another size than {width}x{height}")
            continue
        cells = numbered.read(shown.reshape(-1, height, width, 3), one.draw.size), one.cells
        theirs, ours = (_readable(numbered.gray(found)) for found in cells)
        if theirs != ours:
            one.blame(f"FFmpeg shows {theirs}, a full decode {ours}")


@cache
def _libavcodec() -> int:
    """Return the major version of the command line's decoders."""
    printed = subprocess.run(["ffmpeg", "-version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"libavcodec +(\d+)", printed)
    return int(found[1]) if found else 0


def _readable(pictures: np.ndarray) -> list[int]:
    """Return the numbers of pictures, but of incomplete ones, in which FFmpeg has versions."""
    return [number for number in map(numbered.number, pictures) if number >= 0]


def deep_check(drawn: list[Drawn], index: Index, folder: Path) -> None:
    """What is shown right must pass `reelbench data check --deep`.

    But for what was joined at pictures that lack their reference: a decoder takes one of the recording before it, and
    shows some only by concealing the error.
    """
    index.save(folder / "all.parquet")
    problems = check.check(folder / "all.parquet", deep=True, workers=0, progress=False)
    reasons = {problem.path.name: problem.reason for problem in problems if problem.quarantined}
    for one in drawn:
        if one.path.name in reasons and not (one.draw.joined and one.draw.start and not one.draw.at_key):
            one.blame(f"check --deep: {reasons[one.path.name]}")


@pytest.mark.slow  # hundreds of videos
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("part", range(PARTS))
def test_every_way_shows_the_pictures_of_a_full_decode(tmp_path: Path, part: int) -> None:
    drawn = []
    for number in range(part, DRAWS, PARTS):
        one = draw(SEED, number)
        path = build(one, tmp_path / str(number))
        drawn.append(Drawn(one, path, full_decode(path)))
    if shutil.which("ffmpeg"):
        shown = [one for one in drawn if len(one.cells)]
        for first in range(0, len(shown), INPUTS):
            ask_ffmpeg(shown[first : first + INPUTS], tmp_path)
    for one in drawn:
        describe(one)
    usable = [one for one in drawn if one.video and one.video.frames == len(one.cells)]
    index = index_of(usable, tmp_path)
    parts = Files(index), BatchSampler(total=len(index), batch=1, training=False), ClipSampler(clip=CLIP)
    software, excerpts = DecodedSource(*parts), EncodedSource(*parts, excerpts=True)
    by_dali = supported(index, "cpu")
    for row, one in enumerate(usable):
        show_in_software(one, row, software)
        if by_dali[row]:
            show_excerpts(one, row, excerpts)
    show_clips(usable, index)
    deep_check(usable, index, tmp_path)
    wrong = [f"{one.path.name} {one.draw}: {one.wrong}" for one in drawn if one.wrong]
    assert not wrong, f"{len(wrong)} of {len(drawn)} draws:\n" + "\n".join(wrong)
