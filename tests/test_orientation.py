"""The eight orientations of a display matrix, in every container that holds one, in every way a video is shown."""

from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition
from reelbench import pipelines
from reelbench.pipelines import _orientation, reference, transcode
from reelbench.pipelines.index import Index, build, scan
from reelbench.spec import Clip

from . import grammar

MATRICES = [(1, 0, 0, 1), (0, 1, -1, 0), (-1, 0, 0, -1), (0, -1, 1, 0), (-1, 0, 0, 1), (1, 0, 0, -1), (0, 1, 1, 0),
            (0, -1, -1, 0)]  # fmt: skip
CORNERS = np.array([[(220, 20, 20), (20, 200, 20)], [(20, 20, 220), (230, 230, 30)]], np.uint8)
WIDTH, HEIGHT = 96, 64


def content(matrix: tuple[int, ...]) -> bytes:
    a, b, c, d = (value << 16 for value in matrix)
    return struct.pack("=9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)


def write(path: Path, matrix: tuple[int, ...], codec: str = "libx264") -> Path:
    """Five pictures with a color in each quarter."""
    picture = CORNERS.repeat(HEIGHT // 2, axis=0).repeat(WIDTH // 2, axis=1)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=5)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.set_display_matrix(struct.unpack("=9i", content(matrix)))
        for _ in range(5):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def corners(matrix: tuple[int, ...]) -> np.ndarray:
    """Where the matrix, written out for each corner, puts its color."""
    a, b, c, d = matrix
    shown = np.empty_like(CORNERS)
    for y in (0, 1):
        for x in (0, 1):
            across, down = a * (2 * x - 1) + c * (2 * y - 1), b * (2 * x - 1) + d * (2 * y - 1)
            shown[(down + 1) // 2, (across + 1) // 2] = CORNERS[y, x]
    return shown


def seen(picture: np.ndarray) -> np.ndarray:
    """The colors of a picture's corners, each the nearest of the four."""
    height, width = picture.shape[:2]
    found = picture[np.ix_((4, height - 5), (4, width - 5))].astype(int)
    colors = CORNERS.reshape(4, 3)
    return colors[np.abs(found[:, :, None] - colors).sum(-1).argmin(-1)]


@pytest.mark.slow  # every orientation, through the pipeline
@pytest.mark.parametrize("ending", ["mov", "mkv"])
def test_every_orientation_is_shown_as_the_matrix_says(tmp_path: Path, ending: str) -> None:
    written = {matrix: write(tmp_path / f"{n}.{ending}", matrix) for n, matrix in enumerate(MATRICES)}
    index = build([(path, 0) for path in written.values()], ("a",), tmp_path, workers=0, progress=False)
    for matrix, video in zip(written, index.videos(), strict=True):
        frames = reference.decode(video.path, video.stream, video.rotation, video.flipped)
        assert (seen(frames[2]) == corners(matrix)).all(), matrix
    clip = Clip(frames=1, size=48, short_side=48, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    for decoder in pipelines.decoders(index, "cpu"):
        with pipelines.open(index, clip=clip, batch=len(index), decoder=decoder, workers=1) as stream:
            [batch] = stream.epoch()
        for matrix, picture in zip(written, batch.clip[:, :, 0].permute(0, 2, 3, 1).numpy(), strict=True):
            assert (seen(picture) == corners(matrix)).all(), (decoder, matrix)


def test_a_transcoded_video_is_stored_upright(tmp_path: Path) -> None:
    write(tmp_path / "a.mp4", (0, 1, 1, 0))
    build([("a.mp4", 0)], ("a",), tmp_path, workers=0, progress=False).save(tmp_path / "i.parquet")
    made = transcode.transcode(tmp_path / "i.parquet", tmp_path / "out", codec="vp9", workers=0, progress=False)
    assert isinstance(made, Index)
    assert (made[0].rotation, made[0].flipped) == _orientation.UPRIGHT
    assert (seen(reference.decode(made[0].path)[2]) == corners((0, 1, 1, 0))).all()


def test_a_matrix_between_the_eight_is_the_nearest() -> None:
    tilted = struct.pack("=9i", 65000, 3000, 0, -3000, 65000, 0, 0, 0, 1 << 30)
    assert _orientation.of_matrix(tilted) == (0, False)
    for number, matrix in enumerate(MATRICES):
        assert _orientation.of_matrix(content(matrix)) == [
            (0, False), (90, False), (180, False), (270, False), (0, True), (180, True), (270, True), (90, True),
        ][number]  # fmt: skip


def test_the_orientation_is_that_of_the_stream_that_is_shown(tmp_path: Path) -> None:
    path = tmp_path / "two.mp4"
    with av.open(str(path), "w") as container:
        streams = []
        for width in (64, 128):
            stream = container.add_stream("libx264", rate=5)
            assert isinstance(stream, av.VideoStream)
            stream.width, stream.height, stream.pix_fmt = width, 64, "yuv420p"
            streams.append(stream)
        streams[0].set_display_rotation(90)
        streams[1].disposition = Disposition.default
        for stream in streams:
            for _ in range(5):
                container.mux(stream.encode(av.VideoFrame(stream.width, 64, "yuv420p")))
            container.mux(stream.encode(None))
    video = scan(path)
    assert (video.stream, video.rotation) == (1, 0)


@pytest.mark.slow  # files of every shape of pixels, indexed
@pytest.mark.parametrize("ending", ["mp4", "mkv"])
def test_pixels_that_are_not_square_are_told(tmp_path: Path, ending: str, reelbench) -> None:
    (tmp_path / "run").mkdir()
    with av.open(str(tmp_path / f"run/a.{ending}"), "w") as container:
        stream = container.add_stream("libx264", rate=5)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(16, 11)
        for _ in range(5):
            container.mux(stream.encode(av.VideoFrame(64, 64, "yuv420p")))
        container.mux(stream.encode(None))
    code, printed, _ = reelbench("data", "index", "folder", tmp_path, "--to", tmp_path / "i.parquet")
    assert code == 0
    assert "1 of the videos have pixels that are not square" in printed
    assert Index.load(tmp_path / "i.parquet")[0].pixel_aspect == "16:11"


def test_the_first_packets_may_lack_their_reference(tmp_path: Path) -> None:
    drawn = grammar.Draw(
        codec="libvpx-vp9", form="p", container="mkv", start=6, at_key=False, turn=(0, -1, 1, 0), size=(64, 48)
    )
    assert scan(grammar.build(drawn, tmp_path / "a")).rotation == 270
