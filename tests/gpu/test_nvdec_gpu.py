"""What the driver says of NVDEC holds: least sizes, engines, sessions of two heights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from reelbench import pipelines
from reelbench.harness import doctor
from reelbench.pipelines import decoder_choice, nvdec
from reelbench.pipelines import index as indexing
from reelbench.pipelines._encode import CODECS, encode
from reelbench.pipelines.index import Index
from reelbench.pipelines.stream import Stream
from reelbench.spec import Clip

pytestmark = pytest.mark.gpu

CLIP = Clip(frames=4, stride=2, size=64, short_side=64, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


def indexed(root: Path, codec: str, *sizes: tuple[int, int]) -> Index:
    """Videos of a codec, of each (width, height), in blocks of strong colors."""
    names = []
    for number, (width, height) in enumerate(sizes):
        rng = np.random.default_rng(number)
        coarse = rng.integers(0, 256, (10, -(-height // 32), -(-width // 32), 3), dtype=np.uint8)
        pictures = coarse.repeat(32, axis=1).repeat(32, axis=2)[:, :height, :width]
        names.append(f"{number}{CODECS[codec].suffix}")
        encode(root / names[-1], np.ascontiguousarray(pictures), codec=codec, fps=25, gop=5)
    return indexing.build([(name, 0) for name in names], ("a",), root, workers=0)


def clips(index: Index, decoder: str, epochs: int = 1) -> torch.Tensor:
    with pipelines.open(index, clip=CLIP, batch=1, device="cuda", decoder=decoder, workers=1) as stream:  # type: ignore[arg-type]
        found = torch.cat([batch.clip for _ in range(epochs) for batch in stream.epoch()])
        assert stream.skipped == ()
    return found


@pytest.mark.parametrize("codec", ["h264", "hevc", "vp9", "vp8"])
def test_the_drivers_least_size_is_decoded_and_a_smaller_one_goes_to_software(tmp_path: Path, codec: str):
    limits = nvdec.limits(codec, 8)
    assert limits is not None
    width, height = (-(-side // 16) * 16 for side in limits.least)
    index = indexed(tmp_path, codec, (width, height), (width - 16, height))
    assert decoder_choice.supported(index, "cuda").tolist() == [True, False]
    assert (clips(index, "dali") - clips(index, "software")).abs().mean() < 8


def test_the_embedded_set_is_shown(tiny_index: Index):
    with pipelines.open(tiny_index, clip=CLIP, batch=4, device="cuda") as stream:
        seen = sum(len(batch.video) for batch in stream.epoch())
    assert stream.decoder == "software"
    assert (seen, stream.skipped) == (len(tiny_index), ())


def test_the_engines_have_two_threads_each(tmp_path: Path):
    index = indexed(tmp_path, "h264", (192, 160))
    stream = pipelines.open(index, clip=CLIP, batch=1, device="cuda", decoder="dali", workers=1)
    assert nvdec.engines() >= 1
    assert stream.threads >= 2 * nvdec.engines()


def test_two_heights_of_one_coded_size_keep_their_colors(tmp_path: Path):
    """A 256 x 472 video after a 256 x 480 one: DALI would give it that one's session."""
    index = indexed(tmp_path, "h264", (256, 480), (256, 472), (256, 480), (256, 472))
    assert decoder_choice.supported(index, "cuda").tolist() == [True, False, True, False]
    found, expected = clips(index, "dali", epochs=2), clips(index, "software", epochs=2)
    assert (found - expected).abs().flatten(1).mean(dim=1).max() < 8


def test_widths_of_one_coded_width_are_all_shown(tmp_path: Path):
    """They share sessions: the padding of 340 to 352 pixels is not cropped."""
    index = indexed(tmp_path, "h264", (340, 256), (352, 256), (338, 256), (340, 256))
    assert decoder_choice.supported(index, "cuda").tolist() == [True] * 4
    found, expected = clips(index, "dali", epochs=2), clips(index, "software", epochs=2)
    assert (found - expected).abs().flatten(1).mean(dim=1).max() < 8


def test_the_doctor_says_what_is_decoded():
    lines = {check.name: check.result for check in doctor._nvdec()}
    assert "8 bit" in lines["NVDEC h264"]
    assert "engines" in lines["NVDEC hevc"]


def test_a_file_that_the_gpu_refuses_is_shown_by_software(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Were the driver's least size not known: NVDEC refuses the small video alone, and nothing is lost."""
    index = indexed(tmp_path, "vp9", (192, 160), (64, 64), (192, 160))
    with pipelines.open(index, clip=CLIP, batch=3, device="cuda", decoder="dali", workers=1) as stream:
        monkeypatch.setattr(stream, "_supported", np.ones(3, bool))
        seen = [row for batch in stream.epoch() for row in batch.video.tolist()]
    assert (seen, stream.skipped) == ([0, 1, 2], ())
    assert isinstance(stream, Stream)
    assert stream._supported.tolist() == [True, False, True]
