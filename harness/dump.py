"""The file of predictions that `reelbench eval --dump` writes: a table, or MMAction2's list of samples."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..errors import UserError
from ..pipelines.index import writable
from .measuring.accuracy import Predictions

if TYPE_CHECKING:
    import pandas as pd

FORMATS = (".parquet", ".csv", ".json", ".pkl")
VIEWS = "view_logits"  # column: views x classes for every video


def check(path: Path) -> None:
    """Raise UserError if the file has another suffix than `FORMATS`, or cannot be written."""
    if path.suffix not in FORMATS:
        raise UserError(f"--dump {path}: name a {', '.join(FORMATS[:-1])} or {FORMATS[-1]} file")
    writable(path)


def write(path: Path, predictions: Predictions, paths: list[str], logits: dict[int, list[list[float]]]) -> None:
    """Write the predictions in the format of the suffix.

    `paths` has the path of every row of the index; `logits` each tested row's, views x classes. A `.csv` has lists as
    JSON, a `.json` a list of rows, a `.pkl` what `samples` returns.
    """
    if path.suffix == ".pkl":
        path.write_bytes(pickle.dumps(samples(predictions, paths)))
        return
    table = predictions.table(paths)
    table[VIEWS] = [logits[row] for row in predictions.video.tolist()]
    if path.suffix == ".csv":
        _lists_as_text(table).to_csv(path, index=False)
    elif path.suffix == ".json":
        table.to_json(path, orient="records", indent=1, double_precision=15)
    else:
        table.to_parquet(path)


def samples(predictions: Predictions, paths: list[str]) -> list[dict[str, Any]]:
    """Return a dictionary per video, as MMAction2's DumpResults stores them, with the video's `path` beside.

    `pred_score` is float K, `pred_label` int64 1, `gt_label` int64 1 or for a multi-label set multi-hot float K.
    """
    rows = zip(predictions.video.tolist(), predictions.label, predictions.score, strict=True)
    return [
        {
            "path": paths[row],
            "num_classes": len(score),
            "gt_label": label.clone() if label.ndim else label[None].clone(),
            "pred_score": score.clone(),
            "pred_label": torch.argmax(score)[None],
        }
        for row, label, score in rows
    ]


def _lists_as_text(table: pd.DataFrame) -> pd.DataFrame:
    return table.map(lambda value: json.dumps(value) if isinstance(value, list) else value)
