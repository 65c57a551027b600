"""What is left to the GPU's video decoder, by a driver that is played here: codecs, formats, sizes, DALI's cache."""

from __future__ import annotations

import ctypes
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from reelbench import pipelines
from reelbench.errors import UserError
from reelbench.harness import doctor
from reelbench.pipelines import decoder_choice, nvdec
from reelbench.pipelines._video import Video
from reelbench.pipelines.index import Index, from_videos
from reelbench.spec import Clip

# Codec number -> least width and height, bits: as an H100's driver answers, engines and AV1 included.
DRIVER = {2: (48, 16, (8,)), 4: (48, 16, (8,)), 8: (144, 144, (8, 10, 12)), 9: (48, 16, (8,)), 10: (128, 128, (8, 10))}


def answer(codec: int, bits: int) -> nvdec.DecodeCaps:
    width, height, depths = DRIVER.get(codec, (0, 0, ()))
    return nvdec.DecodeCaps(
        supported=bits in depths, engines=7, output_formats=0b11, min_width=width, min_height=height,
        max_width=4096, max_height=4096, max_macroblocks=65536,
    )  # fmt: skip


@pytest.fixture(autouse=True)
def _asked_anew() -> Iterator[None]:
    yield
    nvdec.limits.cache_clear()
    decoder_choice._print_once.cache_clear()
    decoder_choice._nvdec_sizes.clear()


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """A driver that answers; the list holds what it was asked."""
    asked: list[tuple[int, int]] = []

    def ask(codec: int, bits: int) -> nvdec.DecodeCaps:
        asked.append((codec, bits))
        return answer(codec, bits)

    monkeypatch.setattr(nvdec, "_ask", ask)
    nvdec.limits.cache_clear()
    return asked


def indexed(*videos: tuple[str, str, int, int], **more: int) -> Index:
    """An index of (codec, pixel format, width, height)."""
    plain = {"path": Path("/v"), "frames": 2, "pts": np.arange(2), "time_base": 1, "key_frames": np.zeros(1, np.int32)}
    rest = {"profile": "", "duration": 1.0, "size": 1, "hash": "0"}
    return from_videos(
        [
            Video(codec=codec, pix_fmt=pix_fmt, width=width, height=height, **plain, **rest, **more)  # type: ignore[arg-type]
            for codec, pix_fmt, width, height in videos
        ],
        ("a",),
        "/",
    )


def on_gpu(*videos: tuple[str, str, int, int], **more: int) -> list[bool]:
    return decoder_choice.supported(indexed(*videos, **more), "cuda").tolist()


def test_the_question_is_laid_out_as_in_nvidias_header():
    """Offsets of CUVIDDECODECAPS, version 13.0 of the SDK."""
    assert ctypes.sizeof(nvdec.DecodeCaps) == 88
    offsets = {name: getattr(nvdec.DecodeCaps, name).offset for name, _ in nvdec.DecodeCaps._fields_}
    assert offsets["supported"] == 24
    assert offsets["engines"] == 25
    assert offsets["output_formats"] == 26
    assert offsets["max_width"] == 28
    assert offsets["max_macroblocks"] == 36
    assert (offsets["min_width"], offsets["min_height"]) == (40, 42)


def test_the_driver_says_which_codecs_are_decoded(driver):
    assert on_gpu(
        ("h264", "yuv420p", 256, 256),
        ("h264", "yuvj420p", 256, 256),
        ("h264", "yuv420p10le", 256, 256),
        ("h264", "yuv444p", 256, 256),
        ("hevc", "yuv420p10le", 256, 256),
        ("mpeg4", "yuv420p", 256, 256),
        ("av1", "yuv420p", 256, 256),
        ("mjpeg", "yuvj420p", 256, 256),
        ("frames", "yuvj420p", 256, 256),
        ("mpeg2video", "yuv420p", 256, 256),
    ) == [True, True, False, False, True, False, False, False, False, False]


def test_a_picture_of_another_output_format_is_left_to_software(driver, monkeypatch):
    """DALI has NVDEC write NV12, whatever else the driver offers."""
    only_16_bit = answer(8, 10)
    only_16_bit.output_formats = 0b10
    monkeypatch.setattr(nvdec, "_ask", lambda codec, bits: only_16_bit)
    assert on_gpu(("hevc", "yuv420p10le", 256, 256)) == [False]


def test_sizes_beyond_the_drivers_go_to_software(driver):
    assert on_gpu(
        ("vp9", "yuv420p", 64, 64),
        ("vp9", "yuv420p", 128, 128),
        ("vp9", "yuv420p", 256, 126),
        ("hevc", "yuv420p", 160, 128),
        ("hevc", "yuv420p", 160, 144),
        ("h264", "yuv420p", 64, 64),
        ("h264", "yuv420p", 4096, 4096),
        ("h264", "yuv420p", 4112, 256),
        ("h264", "yuv420p", 255, 255),
    ) == [False, True, False, False, True, True, True, False, False]


def test_too_many_macroblocks_go_to_software(driver, monkeypatch):
    few = answer(4, 8)
    few.max_macroblocks = 8160  # 1920 x 1088
    monkeypatch.setattr(nvdec, "_ask", lambda codec, bits: few)
    assert on_gpu(("h264", "yuv420p", 1920, 1080), ("h264", "yuv420p", 1920, 1104)) == [True, False]


def test_hidden_turned_or_changing_videos_go_to_software_on_a_gpu_too(driver):
    assert on_gpu(("h264", "yuv420p", 256, 256), hidden=1) == [False]
    assert on_gpu(("h264", "yuv420p", 256, 256), rotation=90) == [False]
    assert on_gpu(("h264", "yuv420p", 256, 256), changes=True) == [False]


def test_the_embedded_set_is_decoded_in_software_on_a_gpu(driver, tiny_index: Index):
    assert pipelines.decoders(tiny_index, "cuda") == ("software",)
    assert pipelines.decoders(tiny_index, "cpu") == ("dali", "software")
    with pytest.raises(UserError, match="decodes none of the files"):
        pipelines.open(tiny_index, clip=Clip(frames=2, size=32), batch=1, device="cuda", decoder="dali")


def test_each_question_is_asked_once(driver):
    for _ in range(3):
        on_gpu(("h264", "yuv420p", 256, 256), ("hevc", "yuv420p", 256, 256))
    assert sorted(driver) == [(4, 8), (8, 8)]


# --- DALI's cache of sessions (docs/dali-nvdec-cache.md)


def test_a_video_that_would_get_a_taller_ones_session_goes_to_software(driver):
    assert on_gpu(("h264", "yuv420p", 256, 472), ("h264", "yuv420p", 256, 480)) == [False, True]
    assert on_gpu(("h264", "yuv420p", 250, 472), ("h264", "yuv420p", 256, 480)) == [False, True]


def test_no_session_is_shared_otherwise(driver):
    assert on_gpu(("h264", "yuv420p", 340, 256), ("h264", "yuv420p", 352, 256)) == [True, True]
    assert on_gpu(("h264", "yuv420p", 1920, 1080), ("h264", "yuv420p", 1280, 720)) == [True, True]
    assert on_gpu(("h264", "yuv420p", 256, 472), ("hevc", "yuv420p", 256, 480)) == [True, True]
    assert on_gpu(("h264", "yuv420p", 256, 472), ("h264", "yuv420p", 512, 480)) == [True, True]


def test_sessions_of_another_index_of_the_process_count_too(driver):
    """DALI keeps them: of two heights that would share one, the index that comes second gives way."""
    low, tall = indexed(("h264", "yuv420p", 256, 472)), indexed(("h264", "yuv420p", 256, 480))
    options = {"clip": Clip(frames=2, size=32), "batch": 1, "device": "cuda"}
    for first, second in ((low, tall), (tall, low)):
        assert pipelines.open(first, **options).decoder == "dali"
        assert pipelines.open(second, **options).decoder == "software"
        assert pipelines.open(first, **options).decoder == "dali"
        decoder_choice._nvdec_sizes.clear()


def test_the_indexed_coded_size_counts_where_it_is_larger(driver):
    """Interlaced H.264 fills up to multiples of 32: 1088 lines are coded for 1056 or more."""
    low, high = indexed(("h264", "yuv420p", 256, 270), ("h264", "yuv420p", 256, 288)).videos()
    assert decoder_choice.supported(from_videos([low, high], ("a",), "/"), "cuda").tolist() == [True, True]
    low = dataclasses.replace(low, coded_width=256, coded_height=288)
    assert decoder_choice.supported(from_videos([low, high], ("a",), "/"), "cuda").tolist() == [False, True]


# --- No driver, or none that answers


def test_without_the_drivers_library_all_is_decoded_in_software_and_said_once(monkeypatch, capsys):
    monkeypatch.setattr(nvdec, "LIBRARIES", ("libnvcuvid-that-is-not-there.so",))
    index = indexed(("h264", "yuv420p", 256, 256))
    assert pipelines.decoders(index, "cuda") == ("software",)
    stream = pipelines.open(index, clip=Clip(frames=2, size=32), batch=1, device="cuda")
    assert stream.decoder == "software"
    said = capsys.readouterr().err
    assert said.count("libnvcuvid") == 1
    assert "decoded in software" in said
    assert nvdec.engines() == 0


def test_a_driver_that_is_older_than_a_codec_does_not_decode_it(monkeypatch):
    """It answers CUDA_ERROR_INVALID_VALUE; any other error is no answer at all."""

    library = SimpleNamespace(cuvidGetDecoderCaps=lambda caps: 1)
    monkeypatch.setattr(nvdec, "_library", lambda: library)
    monkeypatch.setattr("torch.zeros", lambda *_, **__: None)
    assert nvdec.limits("av1", 8) is None
    nvdec.limits.cache_clear()
    library.cuvidGetDecoderCaps = lambda caps: 2
    with pytest.raises(nvdec.Unavailable, match="CUDA error 2"):
        nvdec.limits("av1", 8)


def test_the_doctor_says_what_is_decoded(driver, monkeypatch):
    lines = {check.name: check for check in doctor._nvdec()}
    assert lines["NVDEC hevc"].result.startswith("8 bit 144x144 to 4096x4096, 65536 macroblocks, 7 engines; 10 bit ")
    assert (lines["NVDEC av1"].ok, lines["NVDEC av1"].result) == (False, "not decoded")
    assert "in software" in lines["NVDEC av1"].remedy
    assert not any(check.needed for check in lines.values())


def test_the_doctor_says_what_happens_without_the_drivers_library(monkeypatch):
    monkeypatch.setattr(nvdec, "LIBRARIES", ())
    (line,) = doctor._nvdec()
    assert not line.ok
    assert "libnvcuvid" in line.remedy
    assert "in software" in line.remedy


def test_threads_serve_every_engine(driver):
    index = indexed(("h264", "yuv420p", 256, 256))
    options = {"clip": Clip(frames=2, size=32), "batch": 1, "device": "cuda"}
    assert pipelines.open(index, workers=2, **options).threads == 14
    assert pipelines.open(index, workers=32, **options).threads == 32
    assert pipelines.open(index, workers=2, decoder="software", **options).threads == 2
