"""Compare several models' predictions on the same videos: paired tests, per-class accuracy, confusions.

Reads the parquet files of `run` (in `OUT/predictions`), and the .parquet, .csv and .json files of `eval --dump`, with
columns path, label and predicted.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from ..errors import UserError
from ..intervals import wilson
from ._stats import holm
from ._table import Cell, Column, Row, Table

ALPHA = 0.05
CONFUSIONS = 10  # most frequent confusions listed per model


@dataclass(frozen=True)
class Predictions:
    """One model's predictions: true and predicted class by the video's path."""

    name: str
    label: dict[str, int]
    predicted: dict[str, int]

    def right(self, video: str) -> bool:
        """Whether the model classified the video correctly."""
        return self.predicted[video] == self.label[video]


def read(path: Path, name: str) -> Predictions:
    """Read one predictions file. Raises UserError if it holds none, or those of a multi-label set."""
    import pandas as pd

    readers = {".csv": pd.read_csv, ".json": pd.read_json}
    try:
        table = readers.get(path.suffix, pd.read_parquet)(path)[["path", "label", "predicted"]]
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{path} holds no predictions ({' '.join(str(error).split())[:80]}): see --dump") from None
    if table["label"].dtype.kind not in "iu":
        raise UserError(
            f"{path} is of a multi-label set: right or wrong, which is tested here, needs one class a video"
        )
    keys = table["path"].astype(str)
    label, predicted = (dict(zip(keys, table[c].astype(int), strict=True)) for c in ("label", "predicted"))
    return Predictions(name, label, predicted)


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


def disagreement(a: Predictions, b: Predictions) -> list[int]:
    """Return how many of their common videos only `a` got right, how many only `b`, and how many there are.

    Raises UserError as `common` does.
    """
    videos = common([a, b])
    only_a = sum(a.right(v) and not b.right(v) for v in videos)
    return [only_a, sum(b.right(v) and not a.right(v) for v in videos), len(videos)]


def mcnemar(only_a: int, only_b: int) -> float:
    """Return McNemar's exact two-sided p-value for equal accuracy, from the numbers of videos that only one got right.

    Q. McNemar, "Note on the sampling error of the difference between correlated proportions", Psychometrika 12 (1947).

    >>> round(mcnemar(2, 8), 4)
    0.1094
    """
    n = only_a + only_b
    tail = sum(math.comb(n, k) for k in range(min(only_a, only_b) + 1))
    return min(1.0, 2 * tail / 2**n)


def _accuracy(models: Sequence[Predictions], videos: Sequence[str]) -> Table:
    rows = []
    for model in models:
        right, left_out = sum(map(model.right, videos)), len(model.label) - len(videos)
        note = Cell(text=str(left_out), value=left_out)
        rows.append(Row(cells=(Cell(text=model.name), _share(right, len(videos)), note)))
    columns = (_text("model"), _number("top-1", "%"), _number("videos left out"))
    return Table(
        title="Accuracy", columns=columns, rows=tuple(rows),
        caption=f"{len(videos)} videos that all were tested on · intervals cover 95 % (Wilson)",
    )  # fmt: skip


def _pairs(models: Sequence[Predictions], videos: Sequence[str]) -> Table:
    pairs = list(combinations(models, 2))
    counts = [
        (sum(a.right(v) and not b.right(v) for v in videos), sum(b.right(v) and not a.right(v) for v in videos))
        for a, b in pairs
    ]
    corrected = holm([mcnemar(*count) for count in counts])
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
    caption = f"McNemar's exact test on identical videos · {len(pairs)} tests, corrected together, at {ALPHA:.0%}"
    return Table(title="Paired tests", columns=columns, rows=tuple(rows), caption=caption)


def _classes(models: Sequence[Predictions], videos: Sequence[str], classes: Sequence[str]) -> Table:
    first = models[0]
    rows = []
    for label in sorted({first.label[v] for v in videos}):
        mine = [v for v in videos if first.label[v] == label]
        shares = (_share(sum(m.right(v) for v in mine), len(mine)) for m in models)
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


def _share(right: int, count: int) -> Cell:
    low, high = wilson(right, count)
    value = 100 * right / count
    return Cell(text=f"{value:.1f}", value=value, interval=f"[{100 * low:.1f}, {100 * high:.1f}]")


def _name(label: int, classes: Sequence[str]) -> str:
    return classes[label] if label < len(classes) else str(label)


def _text(header: str) -> Column:
    return Column(name=header, header=header, numeric=False)


def _number(header: str, unit: str = "") -> Column:
    return Column(name=header, header=header, unit=unit)
