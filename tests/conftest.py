"""What several test files share: small encoded videos, the optional real clips, and the rule for GPU tests."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import numpy as np
import pytest
from reelbench.harness import cli
from reelbench.pipelines import index as indexing
from reelbench.pipelines import synthetic
from reelbench.pipelines._encode import encode
from reelbench.pipelines.index import Index

ROOT = Path(__file__).resolve().parents[1]
LENGTHS = (3, 9, 17, 26, 30)
SIZES = ((96, 72), (72, 96), (80, 64), (98, 66), (72, 72))
if TYPE_CHECKING:
    from reelbench.harness.training.engine import World
    from torch import Tensor, nn

Printed = tuple[int, str, str]  # exit code, standard output, standard error


def pytest_configure() -> None:
    """Let Ctrl-C be tested where a shell started the tests in the background, whose processes would ignore it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


hypothesis.settings.register_profile("untimed", deadline=None)  # a machine may stand still for seconds
hypothesis.settings.load_profile("untimed")
_status: int | pytest.ExitCode = 0


def pytest_sessionfinish(exitstatus: int | pytest.ExitCode) -> None:
    """Remember how the tests went, for the end of the process."""
    global _status
    _status = exitstatus


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """End here and now, as a measured case does: the native threads of a decoder may hang an interpreter that ends."""
    config.get_terminal_writer().flush()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(int(_status))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a `gpu` test without CUDA; where a GPU was promised (REELBENCH_REQUIRE_GPU=1) it fails instead."""
    if item.get_closest_marker("gpu") is None:
        return
    import torch

    if torch.cuda.is_available():
        return
    if os.environ.get("REELBENCH_REQUIRE_GPU") == "1":
        pytest.fail("REELBENCH_REQUIRE_GPU=1, but CUDA is not available")
    pytest.skip("needs a CUDA device")


@pytest.fixture(autouse=True)
def _torch_as_it_was() -> Iterator[None]:
    """Undo what ZeRO 3 does to the process for good: it puts a function of its own in place of `linear`."""
    import torch.nn.functional as F

    linear = F.linear
    yield
    F.linear = linear


@pytest.fixture
def reelbench(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Printed]:
    """Run a command line in this process; return its exit code and what it printed on both streams."""

    def command(*arguments: object) -> Printed:
        monkeypatch.setattr(sys, "argv", ["reelbench", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        printed = capsys.readouterr()
        return int(ended.value.code or 0), printed.out, printed.err

    return command


@pytest.fixture(scope="session")
def tiny_synthetic(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Indexes of a synthetic VP9 set: 24 train, 8 val and 8 test videos of 16 frames, 64×64."""
    out = tmp_path_factory.mktemp("synthetic")
    return synthetic.make(out, videos=(24, 8, 8), workers=0, progress=False)


@pytest.fixture(scope="session")
def tiny_index(tiny_synthetic: dict[str, Path]) -> Index:
    """The training index of `tiny_synthetic`."""
    return Index.load(tiny_synthetic["train"])


def pixels(frames: int, size: tuple[int, int]) -> np.ndarray:
    """Every frame differs from every other by far more than an encoder loses."""
    rng = np.random.default_rng(frames)
    coarse = rng.integers(0, 256, (frames, size[1] // 8 + 1, size[0] // 8 + 1, 3), dtype=np.uint8)
    return coarse.repeat(8, axis=1).repeat(8, axis=2)[:, : size[1], : size[0]]


@pytest.fixture(scope="session")
def index_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Index]:
    """Index of five videos of a codec, of several sizes and lengths, with key frames 8 apart."""

    @cache
    def make(codec: str, sizes: tuple[tuple[int, int], ...] = SIZES) -> Index:
        root = tmp_path_factory.mktemp(codec)
        suffix = {"mp4": ("h264", "hevc"), "avi": ("mpeg4", "mjpeg"), "webm": ("vp9", "vp8"), "mkv": ("av1",)}
        ending = next(end for end, codecs in suffix.items() if codec in codecs)
        for number, (length, size) in enumerate(zip(LENGTHS, sizes, strict=True)):
            encode(root / f"{number}.{ending}", pixels(length, size), codec=codec, fps=25, gop=8)
        entries = [(f"{number}.{ending}", number % 3) for number in range(len(LENGTHS))]
        index = indexing.build(entries, ("a", "b", "c"), root, workers=0)
        assert not index.skipped
        return index

    return make


@pytest.fixture(scope="session")
def vp9(index_of: Callable[..., Index]) -> Index:
    return index_of("vp9")


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    """DeepSpeed's world of this one process."""
    from reelbench.harness.training import engine

    before = dict(os.environ)
    yield engine.connect("cpu")
    engine.disconnect()
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def model() -> nn.Module:
    """A small model, to load weights into."""
    import torch
    from reelbench import models

    torch.manual_seed(0)
    return models.build("video_swin/micro", num_classes=5)


@pytest.fixture
def state(model: nn.Module) -> dict[str, Tensor]:
    """Weights for `model`, each other than its own."""
    return {key: value + 1 for key, value in model.state_dict().items()}


@pytest.fixture(scope="session")
def real_clips() -> Path:
    """The optional folder of real clips: $REELBENCH_CLIPS, or `shared/clips` beside the checkout; skips without it."""
    folder = Path(os.environ.get("REELBENCH_CLIPS", ROOT.parent / "shared" / "clips"))
    if not folder.is_dir():
        pytest.skip(f"no real clips at {folder}")
    return folder
