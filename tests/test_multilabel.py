"""Several labels a video, from a Multi-Moments in Time folder to the mean average precision of what was trained."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from reelbench import models
from reelbench.harness import eval
from reelbench.harness.training import run_folder
from reelbench.harness.training.check import check_job
from reelbench.harness.training.job import Job
from reelbench.pipelines import _sprites, datasets
from reelbench.pipelines.index import Index
from reelbench.spec import Recipe, Views
from reelbench.tests import ranks

MODEL = "tsm/micro"
AXES = ("across", "down", "turning", "growing")  # a second label beside each motion
CLASSES = (*_sprites.MOTIONS, *AXES)


@pytest.fixture(scope="module")
def mmit(tiny_synthetic: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("mmit")
    (root / "annotations").mkdir()
    (root / "annotations" / "mmit_categories.txt").write_text("".join(f"{c},{n}\n" for n, c in enumerate(CLASSES)))
    for split, name in (("train", "trainingSet"), ("val", "validationSet")):
        lines = [_put(root, split, video.path) for video in Index.load(tiny_synthetic[split]).videos()]
        (root / "annotations" / f"{name}.csv").write_text("\n".join(lines))
        datasets.build_index("mmit", root, split).save(root / f"{split}.parquet")
    return {split: root / f"{split}.parquet" for split in ("train", "val")}


def _put(root: Path, split: str, video: Path) -> str:
    """Copy a video to where its motion's clips are; return its line of annotations."""
    motion = video.parent.name
    place = root / "videos" / motion / f"{split}_{video.name}"
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(video, place)
    return f"{motion}/{place.name},{CLASSES.index(motion)},{CLASSES.index(AXES[_sprites.MOTIONS[motion][0]])}"


@pytest.mark.slow  # two ranks, each with its imports and decoders
@pytest.mark.exhaustive
def test_two_ranks_train_what_one_process_tests(mmit: dict[str, Path], tmp_path: Path):
    recipe = Recipe(objective="multilabel", epochs=4, batch=8, lr=1e-2, mixup=0.2, flip=0.5, validate_epochs=4)
    clip = models.find(MODEL).clip
    made = Job(
        model=MODEL, data=mmit["train"], validation=mmit["val"], recipe=recipe, clip=clip, out=tmp_path, workers=1
    )
    check_job(made, 2)
    losses = ranks.losses(made, *ranks.bare(made, 2))
    assert len(losses) == 12
    assert losses[0] == pytest.approx(0.69, abs=0.1)  # log 2: every class as likely as not
    assert sum(losses[-3:]) < 0.8 * sum(losses[:3])
    [row] = run_folder.read_log(tmp_path, "validation")
    asked = eval.Evaluation(
        model=MODEL, checkpoint=tmp_path / "last.safetensors", data=mmit["val"], views=Views(), batch=4, workers=1,
        dump=tmp_path / "p.parquet",
    )  # fmt: skip
    found = eval.evaluate_checkpoint(asked)
    name = next(name for name in row if name != "step")
    assert name == "map"
    assert row[name] == pytest.approx(found[name].value, abs=1e-3)
    assert 0 < row[name] <= 100
