"""`--decoder` on the verbs that decode: what is asked for is used and told, or refused in one line."""

from __future__ import annotations

from pathlib import Path

import pytest
from reelbench import models, pipelines
from reelbench.harness.training.check import check_job
from reelbench.harness.training.job import Job
from reelbench.pipelines.index import Index
from reelbench.spec import Recipe

MODEL = "tsm/micro"


@pytest.fixture
def chosen(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The decoders of all streams that are opened."""
    found: list[str] = []
    start = pipelines.Stream.__init__

    def noted(self: pipelines.Stream, *given: object, decoder: str, **more: object) -> None:
        found.append(decoder)
        start(self, *given, decoder=decoder, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(pipelines.Stream, "__init__", noted)
    return found


@pytest.mark.slow  # tests a model on videos
@pytest.mark.parametrize("decoder", ["software", "dali"])
def test_clips_are_shown_by_the_decoder_asked_for(reelbench, tiny_synthetic, tmp_path, chosen, decoder):
    sheet = tmp_path / "clips.png"
    code, _, err = reelbench(
        "data", "show", tiny_synthetic["test"], "--model", MODEL, "--to", sheet, "--videos", 1, "--device", "cpu",
        "--decoder", decoder,
    )  # fmt: skip
    assert (code, chosen, sheet.is_file()) == (0, [decoder], True), err


@pytest.mark.parametrize(
    ("codec", "decoder", "said"),
    [("vp9", "nvdec", "unknown decoder 'nvdec'"), ("mpeg4", "dali", "decodes none of the files (mpeg4)")],
)
def test_a_decoder_that_cannot_be_used_is_refused_before_any_work(
    reelbench, index_of, tmp_path: Path, codec: str, decoder: str, said: str
) -> None:
    index: Index = index_of(codec)
    index.save(tmp_path / "a.parquet")
    (tmp_path / "w.pth").touch()
    code, _, err = reelbench(
        "eval", MODEL, "--checkpoint", tmp_path / "w.pth", "--data", tmp_path / "a.parquet", "--device", "cpu",
        "--decoder", decoder,
    )  # fmt: skip
    assert (code, said in err, len(err.splitlines())) == (2, True, 1), err


@pytest.mark.slow  # tests a model on videos
def test_training_refuses_it_too(index_of, tmp_path: Path) -> None:
    index_of("mpeg4").save(tmp_path / "a.parquet")
    job = Job(
        model=MODEL, data=tmp_path / "a.parquet", recipe=Recipe(batch=2), clip=models.find(MODEL).clip,
        out=tmp_path / "run", decoder="dali",
    )  # fmt: skip
    with pytest.raises(pipelines.UserError, match="DALI on this cpu decodes none of the files"):
        check_job(job, 1)
