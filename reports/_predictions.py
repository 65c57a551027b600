"""Compare several models' predictions on the same videos: paired tests, per-class accuracy, confusions.

Reads the parquet files of `run` (in `OUT/predictions`), and the .parquet, .csv and .json files of `eval --dump`, with
columns path, label and predicted, and group if videos of one group are not independent.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path

from ..errors import UserError
from ..intervals import clustered_wilson
from ..power import DISAGREEING, detectable_points
from ._stats import holm, sign_flip
from ._table import Cell, Column, Row, Table

ALPHA = 0.05
CONFUSIONS = 10  # most frequent confusions listed per model


@dataclass(frozen=True)
class Predictions:
    """One model's predictions: true and predicted class by the video's path, and its `group`, if there are any."""

    name: str
    label: dict[str, int]
    predicted: dict[str, int]
    group: dict[str, str] = field(default_factory=dict)

    def right(self, video: str) -> bool:
        """Whether the model classified the video correctly."""
        return self.predicted[video] == self.label[video]


def read(path: Path, name: str) -> Predictions:
    """Read one predictions file. Raises UserError if it holds none, or those of a multi-label set."""
    import pandas as pd

    readers = {".csv": pd.read_csv, ".json": pd.read_json}
    try:
        table = readers.get(path.suffix, pd.read_parquet)(path)
        table = table[["path", "label", "predicted", *(["group"] if "group" in table else [])]]
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{path} holds no predictions ({' '.join(str(error).split())[:80]}): see --dump") from None
    if table["label"].dtype.kind not in "iu":
        raise UserError(
            f"{path} is of a multi-label set: right or wrong, which is tested here, needs one class a video"
        )
    keys = table["path"].astype(str)
    label, predicted = (dict(zip(keys, table[c].astype(int), strict=True)) for c in ("label", "predicted"))
    group = dict(zip(keys, table["group"].astype(str), strict=True)) if "group" in table else {}
    return Predictions(name, label, predicted, group)


def tables(models: Sequence[Predictions], classes: Sequence[str] = ()) -> list[Table]:
    """Return tables of accuracy, paired tests (with two or more models), per-class accuracy, frequent confusions.

    All are of the videos that every model was tested on (`common`); labels without a name in `classes` are shown as
    numbers.
    """
    videos = common(models)
    paired = [_pairs(models, videos)] if len(models) > 1 else []
    return [_accuracy(models, videos), *paired, _classes(models, videos, classes), _confusions(models, videos, classes)]


def common(models: Sequence[Predictions]) -> list[str]:
    """Return the paths of the videos that all models were tested on, sorted.

    Raises UserError if there are none, or if the models' labels of one differ.
    """
    videos = sorted(set.intersection(*(set(m.label) for m in models)))
    if not videos:
        raise UserError(f"{', '.join(m.name for m in models)} have no video in common: test them on one index")
    for model in models[1:]:
        if any(model.label[v] != models[0].label[v] for v in videos):
            raise UserError(f"{model.name} was tested with other labels than {models[0].name}: use one index for both")
    return videos


def disagreement(a: Predictions, b: Predictions) -> list[float]:
    """Return how many of their common videos only `a` got right, how many only `b`, how many there are, and how alike.

    The last is how many times as large the variance of the difference is as if videos of one group were independent,
    at least 1. Raises UserError as `common` does.
    """
    videos = common([a, b])
    only_a, only_b = _right_alone(a, b, videos)
    sums = _differences(a, b, clusters([a, b], videos))
    design = sum(total**2 for total in sums) / max(1, only_a + only_b)
    return [only_a, only_b, len(videos), max(1.0, design)]


def _right_alone(a: Predictions, b: Predictions, videos: Sequence[str]) -> tuple[int, int]:
    """Return how many videos only `a` got right, and how many only `b`."""
    return sum(a.right(v) and not b.right(v) for v in videos), sum(b.right(v) and not a.right(v) for v in videos)


def _differences(a: Predictions, b: Predictions, groups: dict[str, str]) -> list[int]:
    """Return for each group how many more of its videos `b` got right."""
    found: Counter[str] = Counter()
    for video, group in groups.items():
        found[group] += b.right(video) - a.right(video)
    return list(found.values())


def clusters(models: Sequence[Predictions], videos: Sequence[str]) -> dict[str, str]:
    """Return each video's group as the models' files name it, the first that does; else the video itself."""
    known = {video: group for model in reversed(models) for video, group in model.group.items()}
    return {video: known.get(video, video) for video in videos}


def _alike(groups: dict[str, str]) -> str:
    count = len(set(groups.values()))
    return f", in {count} groups" if count < len(groups) else ""


def _accuracy(models: Sequence[Predictions], videos: Sequence[str]) -> Table:
    rows, groups = [], clusters(models, videos)
    for model in models:
        left_out = len(model.label) - len(videos)
        note = Cell(text=str(left_out), value=left_out)
        rows.append(Row(cells=(Cell(text=model.name), _share(model, videos, groups), note)))
    columns = (_text("model"), _number("top-1", "%"), _number("videos left out"))
    caption = f"{len(videos)} videos that all were tested on{_alike(groups)} · intervals cover 95 % (Wilson)"
    return Table(title="Accuracy", columns=columns, rows=tuple(rows), caption=caption)


def _pairs(models: Sequence[Predictions], videos: Sequence[str]) -> Table:
    pairs = list(combinations(models, 2))
    counts = [_right_alone(a, b, videos) for a, b in pairs]
    groups = clusters(models, videos)
    corrected = holm([sign_flip(_differences(a, b, groups)) for a, b in pairs])
    rows = []
    for (a, b), (only_a, only_b), p in zip(pairs, counts, corrected, strict=True):
        better = "no difference" if p >= ALPHA else f"{(a if only_a > only_b else b).name} is better"
        difference = 100 * (only_b - only_a) / len(videos)
        cells = (
            Cell(text=a.name), Cell(text=b.name), Cell(text=str(only_a), value=only_a),
            Cell(text=str(only_b), value=only_b), Cell(text=f"{difference:+.1f}", value=difference),
            Cell(text="< 0.001" if p < 0.001 else f"{p:.3f}", value=p), Cell(text=better),
        )  # fmt: skip
        rows.append(Row(cells=cells))
    columns = (
        _text("A"), _text("B"), _number("only A right"), _number("only B right"), _number("B - A", "points"),
        _number("p (Holm)"), _text("verdict"),
    )  # fmt: skip
    told = "McNemar's exact test" if not _alike(groups) else f"test by the signs of the differences{_alike(groups)},"
    shown = f"{detectable_points(len(set(groups.values()))):.1f} points"
    caption = (
        f"{told} on identical videos · {len(pairs)} tests, corrected together, at {ALPHA:.0%} · these videos show a "
        f"difference of {shown} between two models of which one alone is right on {DISAGREEING:.0%} of them"
    )
    return Table(title="Paired tests", columns=columns, rows=tuple(rows), caption=caption)


def _classes(models: Sequence[Predictions], videos: Sequence[str], classes: Sequence[str]) -> Table:
    first = models[0]
    rows, groups = [], clusters(models, videos)
    for label in sorted({first.label[v] for v in videos}):
        mine = [v for v in videos if first.label[v] == label]
        shares = (_share(m, mine, groups) for m in models)
        rows.append(Row(cells=(Cell(text=_name(label, classes)), Cell(text=str(len(mine)), value=len(mine)), *shares)))
    columns = (_text("class"), _number("videos"), *(_number(m.name, "%") for m in models))
    return Table(title="Classes", columns=columns, rows=tuple(rows), caption="share of each class's videos named right")


def _confusions(models: Sequence[Predictions], videos: Sequence[str], classes: Sequence[str]) -> Table:
    rows = []
    for model in models:
        wrong = Counter((model.label[v], model.predicted[v]) for v in videos if not model.right(v))
        for (label, predicted), count in wrong.most_common(CONFUSIONS):
            names = (Cell(text=_name(label, classes)), Cell(text=_name(predicted, classes)))
            rows.append(Row(cells=(Cell(text=model.name), *names, Cell(text=str(count), value=count))))
    columns = (_text("model"), _text("is"), _text("taken for"), _number("videos"))
    return Table(title="Confusions", columns=columns, rows=tuple(rows), caption=f"the {CONFUSIONS} commonest a model")


def matrix(model: Predictions, classes: Sequence[str] = ()) -> str:
    """Return the confusion matrix of all the model's videos as CSV: a row per true class, a column per predicted one.

    Classes that are neither are left out.
    """
    labels = sorted({*model.label.values(), *model.predicted.values()})
    counts = Counter((model.label[v], model.predicted[v]) for v in model.label)
    quoted = ['"' + _name(label, classes).replace('"', '""') + '"' for label in labels]
    lines = [",".join(["is", *quoted])]
    lines += [",".join([name, *(str(counts[i, j]) for j in labels)]) for name, i in zip(quoted, labels, strict=True)]
    return "\n".join(lines) + "\n"


def _share(model: Predictions, videos: Sequence[str], groups: dict[str, str]) -> Cell:
    right = [model.right(video) for video in videos]
    low, high = clustered_wilson(right, [groups[video] for video in videos])
    value = 100 * sum(right) / len(right)
    return Cell(text=f"{value:.1f}", value=value, interval=f"[{100 * low:.1f}, {100 * high:.1f}]")


def _name(label: int, classes: Sequence[str]) -> str:
    return classes[label] if label < len(classes) else str(label)


def _text(header: str) -> Column:
    return Column(name=header, header=header, numeric=False)


def _number(header: str, unit: str = "") -> Column:
    return Column(name=header, header=header, unit=unit)
