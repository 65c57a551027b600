"""Colors are those that a file is tagged with, whichever decoder shows it: a chart of patches, by matrix and range."""

from __future__ import annotations

import dataclasses
from fractions import Fraction
from pathlib import Path

import av
import av.filter
import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from reelbench import pipelines
from reelbench.harness.decoders import chart
from reelbench.harness.decoders.chart import film
from reelbench.pipelines import _colors, _rgb, decoder_choice, reference, software
from reelbench.pipelines import index as indexing
from reelbench.pipelines._encode import CODECS
from reelbench.pipelines.index import Index, scan
from reelbench.pipelines.transcode import transcode
from reelbench.spec import Clip

SIDE = 6 * chart.PATCH
CLIP = Clip(frames=4, sampling="segments", size=SIDE, short_side=SIDE, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


def indexed(*films: Path) -> Index:
    index = indexing.build([(path.name, 0) for path in films], ("a",), films[0].parent, workers=0)
    assert not index.skipped
    return index


def shown(index: Index, decoder: str, clip: Clip = CLIP) -> np.ndarray:
    """The first frame of each video, V x S x S x 3."""
    with pipelines.open(index, clip=clip, batch=len(index), decoder=decoder, workers=1) as stream:
        return np.concatenate([batch.clip[:, :, 0].permute(0, 2, 3, 1).numpy() for batch in stream.epoch()])


def psnr(one: np.ndarray, other: np.ndarray) -> float:
    error = float(np.mean((one.astype(np.float64) - other) ** 2))
    return 10 * np.log10(255**2 / error) if error else 99.0


def inside(pictures: np.ndarray) -> np.ndarray:
    """The patches' middles, which no chroma of a neighbor reaches: 6 x 6 x 3."""
    return pictures[..., chart.PATCH // 2 :: chart.PATCH, chart.PATCH // 2 :: chart.PATCH, :].astype(np.float64)


@pytest.fixture
def corrected(monkeypatch: pytest.MonkeyPatch) -> None:
    """DALI decodes files of all matrices and the graph corrects their colors: as on a GPU."""
    monkeypatch.setattr(decoder_choice, "WEIGHTS", {})


@pytest.mark.slow  # several streams, each with its decoders
@pytest.mark.usefixtures("corrected")
def test_all_decoders_show_the_tagged_colors(tmp_path: Path):
    tags = [(matrix, extent) for matrix in ("bt709", "smpte240m", "bt2020nc") for extent in ("tv", "pc")]
    index = indexed(*(film(tmp_path / f"{matrix}_{extent}.webm", "vp9", matrix, extent) for matrix, extent in tags))
    for dali, pyav in zip(shown(index, "dali"), shown(index, "software"), strict=True):
        assert np.abs(inside(pyav) - inside(chart.picture())).max() <= 6  # what the encoder leaves
        assert psnr(dali, pyav) > 50
        assert np.abs(dali - pyav).max() <= 2


@pytest.mark.slow  # several streams, each with its decoders
def test_bt601_and_untagged_files_are_the_same_bit_for_bit(tmp_path: Path):
    """Untagged means BT.601. VP8 has nothing else, whatever its container says. Of odd sizes, chroma lies alike."""
    tags = [("vp9", "unknown", "unknown"), ("vp9", "smpte170m", "tv"), ("vp9", "smpte170m", "pc"),
            ("vp8", "unknown", "unknown"), ("vp8", "bt709", "pc")]  # fmt: skip
    films = [film(tmp_path / f"{'_'.join(tag)}.webm", *tag) for tag in tags]
    odd = [film(tmp_path / f"odd_{tag[0]}.webm", *tag, odd=True) for tag in (tags[0], tags[3])]
    index = indexed(*films, *odd)
    assert {(video.color_matrix, video.color_range) for video in index.videos() if video.codec == "vp8"} == {
        ("bt470bg", "tv")
    }
    dali, pyav = shown(index, "dali"), shown(index, "software")
    for row, video in enumerate(index.videos()):
        if row < len(films):
            assert np.array_equal(dali[row], pyav[row])
            assert np.array_equal(pyav[row], reference.decode(video.path)[0])
        else:  # shown a little larger, which each rounds in its own way
            assert psnr(dali[row], pyav[row]) > 60


@pytest.mark.usefixtures("corrected")
@pytest.mark.slow  # several streams, each with its decoders
def test_a_batch_of_several_tags_corrects_each_by_its_own(tmp_path: Path):
    """Untagged ones pass unchanged beside a corrected one; what is decoded in software is not corrected twice."""
    tags = ("unknown", "bt709", "smpte170m", "bt2020nc", "bt709")
    index = indexed(*(film(tmp_path / f"{k}.webm", "vp9", tag, "tv") for k, tag in enumerate(tags)))
    videos = list(index.videos())
    videos[4] = dataclasses.replace(videos[4], hidden=1)
    odd = indexing.from_videos(videos, index.classes, index.root)
    for some in (index, odd):
        dali, pyav = shown(some, "dali"), shown(some, "software")
        for row in range(len(some)):
            assert psnr(dali[row], pyav[row]) > 50
        assert np.array_equal(dali[[0, 2]], pyav[[0, 2]])
    assert np.array_equal(dali[4], pyav[4])


@pytest.mark.slow  # several streams, each with its decoders
def test_a_part_of_a_full_range_picture_keeps_its_range(tmp_path: Path):
    """The software decoder crops before it converts: the tags have to survive that."""
    index = indexed(film(tmp_path / "a.webm", "vp9", "bt709", "pc"))
    middle = shown(index, "software", dataclasses.replace(CLIP, size=2 * chart.PATCH))[0]
    assert np.abs(inside(middle) - inside(chart.picture())[2:4, 2:4]).max() <= 6


@pytest.mark.slow  # several streams, each with its decoders
def test_what_dali_converts_wrongly_is_left_to_software_on_a_cpu(tmp_path: Path):
    """Another matrix, or a place of chroma that the container names."""
    plain = film(tmp_path / "a.webm", "vp9", "smpte170m", "tv")
    tagged = film(tmp_path / "b.webm", "vp9", "bt709", "tv")
    sited = tmp_path / "c.webm"
    with av.open(str(plain)) as source, av.open(str(sited), "w") as target:
        stream = target.add_stream("libvpx-vp9", options={"chroma_sample_location": "left", "crf": "4", "b": "0"})
        stream.width = stream.height = SIDE
        for frame in source.decode(video=0):
            target.mux(stream.encode(frame))
        target.mux(stream.encode(None))
    assert pipelines.decoders(indexed(plain), "cpu") == ("dali", "software")
    index = indexed(tagged, sited)
    assert pipelines.decoders(index, "cpu") == ("software",)
    for frame, path in zip(shown(index, "dali"), (tagged, sited), strict=True):
        assert np.array_equal(frame, reference.decode(path)[0])


SUBSAMPLED = ["yuv411p", "yuv410p", "yuv420p", "yuv440p", "yuv422p", "gray", "monob", "rgb24"]


@pytest.mark.parametrize("interlaced", [False, True], ids=["progressive", "interlaced"])
@pytest.mark.parametrize("size", [(96, 64), (97, 65)], ids=["even", "odd"])
@pytest.mark.parametrize("pix_fmt", SUBSAMPLED)
def test_a_region_has_the_colors_that_it_has_in_the_whole(pix_fmt: str, size: tuple[int, int], interlaced: bool):
    """Wherever it begins: chroma of one sample for several pixels, in each field of an interlaced frame."""
    rng, (width, height) = np.random.default_rng(0), size
    noise = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    frame = av.VideoFrame.from_ndarray(noise, format="rgb24").reformat(format=pix_fmt)
    graph = av.filter.Graph()
    graph.link_nodes(
        graph.add_buffer(width=width, height=height, format=frame.format, time_base=Fraction(1, 25)),
        graph.add("setfield", "tff" if interlaced else "prog"),
        graph.add("buffersink"),
    ).configure()
    graph.vpush(frame)
    frame = graph.vpull()
    assert frame.interlaced_frame == interlaced
    whole = _rgb.ToRGB((0, 0, *size), size)(frame)
    for _ in range(20):
        x0, y0 = rng.integers(0, (width - 8, height - 8))
        x1, y1 = rng.integers((x0 + 1, y0 + 1), (width + 1, height + 1))
        part = _rgb.ToRGB((int(x0), int(y0), int(x1), int(y1)), size)(frame)
        assert np.array_equal(part, whole[y0:y1, x0:x1])


def test_a_palette_that_only_the_beginning_holds_is_not_lost_by_seeking(tmp_path: Path):
    with av.open(str(tmp_path / "a.mov"), "w") as target:
        stream = target.add_stream("smc", rate=25, options={"g": "2"})
        stream.width = stream.height = SIDE
        stream.pix_fmt = "pal8"
        palette = np.concatenate([np.full((256, 1), 255), np.random.default_rng(0).integers(0, 256, (256, 3))], axis=1)
        for number in range(6):
            levels = np.full((SIDE, SIDE), 40 * number, np.uint8)
            frame = av.VideoFrame.from_ndarray((levels, palette.astype(np.uint8)), format="pal8")  # type: ignore[arg-type]
            frame.pts = number
            target.mux(stream.encode(frame))
        target.mux(stream.encode(None))
    video, wanted = scan(tmp_path / "a.mov"), np.array([3, 5])
    content, region = np.fromfile(video.path, np.uint8), (32, 32, 64, 64)
    found = software.decode(content, video.stream, wanted, video.pts, video.key_frames, region)
    assert np.array_equal(found, reference.decode(video.path)[wanted, 32:64, 32:64])
    assert np.array_equal(found[:, 0, 0], palette[40 * wanted, 1:])


@pytest.mark.parametrize("codec", ["h264", "hevc", "vp9", "vp8", "av1", "mpeg4", "mjpeg"])
def test_the_index_names_the_colors_that_a_decoder_finds(tmp_path: Path, codec: str):
    for matrix, color_range in (("unknown", "unknown"), ("bt709", "tv"), ("bt2020nc", "pc")):
        path = film(tmp_path / f"{matrix}{CODECS[codec].suffix}", codec, matrix, color_range)
        assert tagged(path) == decoded(path)


@pytest.mark.parametrize("codec", ["h264", "hevc", "vp9", "mpeg4"])
@pytest.mark.parametrize("stated", ["unknown", "bt2020nc"])
def test_where_container_and_stream_differ_the_index_sides_with_the_decoder(tmp_path: Path, codec: str, stated: str):
    before = film(tmp_path / f"before{CODECS[codec].suffix}", codec, stated, "unknown")
    after = tmp_path / "after.mkv"
    with av.open(str(before)) as source, av.open(str(after), "w") as target:
        copy = target.add_stream_from_template(source.streams.video[0])
        copy.codec_context.colorspace, copy.codec_context.color_range = 1, 2  # bt709, pc
        for number, packet in enumerate(packet for packet in source.demux(video=0) if packet.size):
            packet.stream, packet.dts = copy, number if packet.dts is None else packet.dts
            packet.pts = packet.dts if packet.pts is None else packet.pts
            target.mux(packet)
    assert tagged(after) == decoded(after)


def tagged(path: Path) -> tuple[str, str]:
    video = scan(path)
    return video.color_matrix, video.color_range


def decoded(path: Path) -> tuple[str, str]:
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
        return _colors.MATRICES[frame.colorspace], _colors.RANGES[frame.color_range]


def test_a_folder_of_frames_is_in_full_range(tmp_path: Path):
    Image.fromarray(chart.picture()).save(tmp_path / "00001.jpg")
    assert tagged(tmp_path) == ("bt470bg", "pc")


def test_an_index_of_an_earlier_release_is_read_as_untagged(tmp_path: Path):
    indexed(film(tmp_path / "a.webm", "vp9", "bt709", "tv")).save(tmp_path / "new.parquet")
    assert Index.load(tmp_path / "new.parquet")[0].color_matrix == "bt709"
    table = pq.read_table(tmp_path / "new.parquet").drop_columns(["color_matrix", "color_range"])
    pq.write_table(table, tmp_path / "old.parquet")
    video = Index.load(tmp_path / "old.parquet")[0]
    assert (video.color_matrix, video.color_range) == ("unknown", "unknown")


def test_transcoded_videos_keep_their_colors(tmp_path: Path):
    """They are converted to what every decoder shows without correction, and tagged so."""
    source = indexed(film(tmp_path / "a.mp4", "h264", "bt709", "tv"), film(tmp_path / "b.mp4", "h264", "bt709", "pc"))
    source.save(tmp_path / "a.parquet")
    for codec in ("h264", "hevc", "vp9", "vp8", "av1"):
        made = transcode(tmp_path / "a.parquet", tmp_path / codec, codec=codec, workers=0, progress=False)
        for video in made.videos():
            assert (video.color_matrix, video.color_range) == ("bt470bg" if codec == "vp8" else "smpte170m", "tv")
            assert np.abs(inside(reference.decode(video.path)[0]) - inside(chart.picture())).max() <= 12
