"""Re-encodes a data set to decode fast: smaller frames and more key frames; labels, frame times and order stay.

    small = transcode("k400_train.parquet", Path("k400_256"))   # writes k400_256/… and k400_256/k400_train.parquet

Run again after an interruption, it resumes: complete files are not made twice. One folder takes one setting. A trimmed
video becomes a file of its own, a rotated one is stored upright, and audio is dropped. Times count from each video's
first frame; a folder of frames, which has no times, becomes a video of 25 frames per second.

Frames are converted to RGB as for training, then encoded in BT.601, limited range, and tagged so: every decoder shows
those colors.

With sides that are multiples of 16, DALI can reuse its NVDEC sessions (docs/dali-nvdec-cache.md). So the long side is
cropped to one, by up to 15 pixels, half on each side; the short side of a video that is not scaled stays as it is.
"""

from __future__ import annotations

import glob
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from ..errors import UserError, unknown
from . import _frames, _orientation, _parallel
from ._encode import encode, find
from ._rgb import EXACT, ToRGB
from ._shown import Decoder
from .index import Index, SkippedVideo, Video, from_videos, scan, writable

CODECS = ("h264", "hevc", "vp9", "vp8", "av1")  # the containers of the others store no frame times
# Colors that every decoder shows correctly. swscale and FFmpeg number the same matrix differently.
BT601, SMPTE170M, LIMITED = 5, 6, 1
TIMEOUT = 6 * 3600.0  # seconds for one video
BLOCK = 16  # pixels
UNTIMED = Fraction(1, 25)  # seconds per frame for folders of frames, which carry no times


@dataclass(frozen=True, kw_only=True)
class _Job:
    video: Video
    target: Path
    short_side: int
    gop: int
    codec: str


def transcode(
    index: Path | str,
    out: Path | str,
    *,
    short_side: int = 256,
    gop: int = 16,
    codec: str = "h264",
    workers: int | None = None,
    progress: bool = True,
) -> Index:
    """Transcode an index's videos into `out`, write the new index there under the old name, and return it.

    `short_side` is in pixels, rounded up to a multiple of 16; smaller videos are not enlarged. `gop` is the key-frame
    interval in frames. A video that fails is listed in the new index's `skipped`.

    Raises UserError if the codec stores no frame times, `short_side` is below 64, half of the videos or more are
    missing or changed, or `out` holds the index or its videos, or was made with other settings.
    """
    if codec not in CODECS:
        raise unknown("transcoding codec", codec, CODECS)
    if short_side < 64 or gop < 1:
        raise UserError(f"short_side={short_side} must be at least 64 and gop={gop} at least 1")
    source, out = Index.load(index), Path(out).absolute()
    if out.resolve() in (Path(index).absolute().parent.resolve(), source.root.resolve()):
        raise UserError(f"{out}: holds the index or its videos: choose another folder for the copy")
    source.verify()
    _claim(out, {"short_side": short_side, "gop": gop, "codec": codec, "long_side_multiple_of": BLOCK})
    jobs = [
        _Job(video=video, target=_target(video, source.root, out, codec), short_side=short_side, gop=gop, codec=codec)
        for video in source.videos()
    ]
    found = list(_parallel.ordered(
        _transcode, jobs, crashed=_crashed, title="transcoding", workers=workers, progress=progress, timeout=TIMEOUT
    ))  # fmt: skip
    made = from_videos(
        [now for now in found if isinstance(now, Video)], source.classes, out,
        skipped=source.skipped + _failed(jobs, found), multi_label=source.multi_label,
    )  # fmt: skip
    made = replace(made, metric=source.metric, mirror=source.mirror)
    made.save(out / Path(index).name)
    return made


def _failed(jobs: list[_Job], found: list[Video | str]) -> tuple[SkippedVideo, ...]:
    return tuple(
        SkippedVideo(str(job.video.path), now) for job, now in zip(jobs, found, strict=True) if isinstance(now, str)
    )


def _claim(out: Path, setting: dict[str, object]) -> None:
    """Record the settings of a folder. Raises UserError if it was made with others."""
    file = out / "transcode.json"
    writable(file)
    if not file.is_file():
        file.write_text(json.dumps(setting), encoding="utf-8")
    elif (before := file.read_text(encoding="utf-8")) != json.dumps(setting):
        raise UserError(f"{out}: was made with {before}, not {json.dumps(setting)}: choose another folder")


def _target(video: Video, root: Path, out: Path, codec: str) -> Path:
    """Return a video's path below `out`: as below the root, with part of its hash and its span in the name."""
    inside = video.path if video.path.is_relative_to(root) else root / video.path.name
    name = f"{inside.stem if video.codec != 'frames' else inside.name}.{video.hash[:8]}"
    span = f".{video.offset}+{video.frames}" if video.offset or video.frames != len(video.pts) else ""
    return out / inside.parent.relative_to(root) / f"{name}{span}{find(codec).suffix}"


def _transcode(job: _Job) -> Video | str:
    try:
        if not job.target.is_file():
            job.target.parent.mkdir(parents=True, exist_ok=True)
            for left in job.target.parent.glob(f".{glob.escape(job.target.stem)}.*{job.target.suffix}"):
                left.unlink()  # from a killed run
            fps = Fraction(job.video.fps).limit_denominator(1001) if job.video.fps else 1 / UNTIMED
            encode(job.target, _pictures(job), codec=job.codec, fps=fps, gop=job.gop)
        made = scan(job.target, job.video.label)
    except Exception as error:  # noqa: BLE001 (whatever a file makes libraries raise, the others are transcoded)
        return str(error) or type(error).__name__
    if made.frames != job.video.frames:
        os.unlink(job.target)
        return f"{made.frames} of {job.video.frames} frames decode"
    return made


def _crashed(job: _Job) -> str:
    return "crashes or hangs the decoder or the encoder"


def _pictures(job: _Job) -> Iterator[av.VideoFrame]:
    """Yield the video's frames, upright and scaled, with their own times, from zero."""
    video, first = job.video, job.video.offset
    size = video.width, video.height
    convert = ToRGB((0, 0, *size), size)
    for number, frame in enumerate(_decoded(video)):
        if number >= first + video.frames:
            return
        if number >= first:
            upright = _orientation.apply(convert(frame), (video.rotation, video.flipped))
            picture = _cropped(_scaled(np.ascontiguousarray(upright), job.short_side))
            picture.time_base = video.time_base if video.codec != "frames" else UNTIMED
            picture.pts = int(video.pts[number] - video.pts[first])
            yield picture


def _decoded(video: Video) -> Iterator[av.VideoFrame]:
    for path in _frames.files(video.path) if video.codec == "frames" else [video.path]:
        with av.open(str(path)) as container:
            stream = container.streams[video.stream]
            assert isinstance(stream, av.VideoStream)
            stream.thread_type = "NONE"
            yield from (frame for _, frame in Decoder(container, stream).frames())


def _scaled(picture: np.ndarray, short_side: int) -> av.VideoFrame:
    """Return an RGB picture (H W 3) scaled, with even sides as 4:2:0 requires."""
    height, width = picture.shape[:2]
    scale = min(1.0, -(-short_side // BLOCK) * BLOCK / min(width, height))
    wide, high = (max(2, 2 * round(side * scale / 2)) for side in (width, height))
    made = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(
        width=wide,
        height=high,
        format="yuv420p",
        interpolation=EXACT,
        dst_colorspace=BT601,
        dst_color_range=LIMITED,
    )
    made.colorspace, made.color_range = SMPTE170M, LIMITED
    return made


def _cropped(frame: av.VideoFrame) -> av.VideoFrame:
    """Return a 4:2:0 frame's center crop whose long side is a multiple of 16, unless that is below 16."""
    width, height, long = frame.width, frame.height, max(frame.width, frame.height)
    width, height = (side // BLOCK * BLOCK or side if side == long else side for side in (width, height))
    if (width, height) == (frame.width, frame.height):
        return frame
    middle = av.VideoFrame(width, height, "yuv420p")
    left, top = (frame.width - width) // 4 * 2, (frame.height - height) // 4 * 2  # even, for the chroma planes
    for of, to, half in zip(frame.planes, middle.planes, (1, 2, 2), strict=True):
        pixels = np.frombuffer(memoryview(of), np.uint8).reshape(-1, of.line_size)[top // half :, left // half :]
        room = np.frombuffer(memoryview(to), np.uint8).reshape(-1, to.line_size)
        room[: to.height, : to.width] = pixels[: to.height, : to.width]
    middle.colorspace, middle.color_range = frame.colorspace, frame.color_range
    return middle
