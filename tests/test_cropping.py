"""Videos that show less than whole blocks: for NVDEC the padding on the right is shown, too; nothing else changes."""

from __future__ import annotations

import dataclasses
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.bitstream import BitStreamFilterContext
from reelbench.pipelines import _packets, decoder_choice, nvdec, reference
from reelbench.pipelines._encode import encode
from reelbench.pipelines._files import Files
from reelbench.pipelines._video import Video
from reelbench.pipelines.index import from_videos, scan
from reelbench.pipelines.source import BatchSampler, ClipSampler, EncodedSource
from reelbench.spec import Clip

FRAMES, HEIGHT = 24, 160
LIMITS = nvdec.Limits(least=(48, 16), most=(4096, 4096), macroblocks=65536, engines=1)
CLIP = Clip(frames=4, stride=2, size=64, short_side=64)


def film(folder: Path, width: int) -> Video:
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (FRAMES, HEIGHT // 8, -(-width // 8), 3), dtype=np.uint8)
    pictures = coarse.repeat(8, axis=1).repeat(8, axis=2)[:, :, :width]
    encode(folder / "film.mp4", map(np.ascontiguousarray, pictures), codec="h264", fps=25, gop=8)
    return scan(folder / "film.mp4")


def excerpt(video: Video, wanted: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return the frames that an excerpt without cropping shows."""
    content = np.fromfile(video.path, np.uint8)
    data, numbers = _packets.excerpt(content, video.stream, wanted, video.pts, video.key_frames, coded=size)
    path = video.path.with_name("excerpt")
    path.write_bytes(data.tobytes())
    return reference.decode(path)[numbers]


@pytest.mark.parametrize("wanted", [np.arange(FRAMES), np.array([3, 4, 11, 21])], ids=["all", "some"])
def test_the_padding_is_shown_beside_the_same_pixels(tmp_path: Path, wanted: np.ndarray) -> None:
    video = film(tmp_path, 180)
    found = excerpt(video, wanted.astype(np.int32), (192, HEIGHT))
    assert found.shape[1:] == (HEIGHT, 192, 3)
    expected = reference.decode(video.path)[wanted]
    assert np.array_equal(found[:, :, :178], expected[:, :, :178])
    assert np.abs(found[:, :, 178:180].astype(int) - expected[:, :, 178:180]).max() <= 40  # chroma of the padding


def test_what_is_cropped_on_the_left_stays_as_it_is(tmp_path: Path) -> None:
    video, path = film(tmp_path, 192), tmp_path / "left.mp4"
    with av.open(str(video.path)) as source, av.open(str(path), "w") as target:
        copy = target.add_stream_from_template(source.streams.video[0], opaque=True)
        crop = BitStreamFilterContext("h264_metadata=crop_left=4:crop_right=4", source.streams.video[0], copy)
        for packet in (p for whole in source.demux(video=0) if whole.dts is not None for p in crop.filter(whole)):
            packet.stream = copy
            target.mux(packet)
    found = excerpt(scan(path), np.arange(FRAMES, dtype=np.int32), (192, HEIGHT))
    assert np.array_equal(found, reference.decode(path))


@pytest.mark.parametrize(("codec", "width", "shown"), [("h264", 180, 192), ("h264", 192, 192), ("vp9", 180, 180)])
def test_a_sample_keeps_its_boxes(tmp_path: Path, codec: str, width: int, shown: int) -> None:
    encode(tmp_path / "v.mkv", np.zeros((FRAMES, HEIGHT, width, 3), np.uint8), codec=codec, fps=25, gop=8)
    files = Files(from_videos([scan(tmp_path / "v.mkv")], ("a",), tmp_path))
    parts = files, BatchSampler(total=1, batch=1, training=False), ClipSampler(clip=CLIP)
    spec = parts[2].sample(FRAMES, (width, HEIGHT), 0, 0)
    (data, _), boxes = EncodedSource(*parts, uncropped=True).content(0, spec)
    (tmp_path / "data").write_bytes(data.tobytes())
    assert reference.decode(tmp_path / "data").shape[2] == shown
    assert np.array_equal(boxes, EncodedSource(*parts).content(0, spec)[1])


def test_a_session_is_found_by_the_whole_width(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without cropping, the session of 330 x 256 is that of 336 x 256: a lower video of that coded size gives way."""
    monkeypatch.setattr(decoder_choice, "_nvdec_sizes", {})
    monkeypatch.setattr(nvdec, "limits", lambda codec, bits: LIMITS)
    some = Video(
        path=Path("/v"), frames=2, pts=np.arange(2), time_base=Fraction(1, 25), key_frames=np.zeros(1, np.int32),
        width=330, height=256, coded_width=336, coded_height=256, codec="h264", profile="", pix_fmt="yuv420p",
        duration=1.0, size=1, hash="0",
    )  # fmt: skip
    low = dataclasses.replace(some, width=336, height=248)
    assert decoder_choice.supported(from_videos([some, low], ("a",), "/"), "cuda").tolist() == [True, False]
