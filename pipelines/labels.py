"""Labels of an index's videos as tensors."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from .index import Index


def of(index: Index, rows: Iterable[int]) -> Tensor:
    """Return the labels of some rows: int64 V (-1: unknown), or in a multi-label set multi-hot float32 V x classes."""
    import torch

    column = index.table["label"]
    labels = [[int(number) for number in column.iat[row]] for row in rows]
    if not index.multi_label:
        return torch.tensor([numbers[0] if numbers else -1 for numbers in labels], dtype=torch.long)
    hot = torch.zeros(len(labels), len(index.classes))
    for row, numbers in zip(hot, labels, strict=True):
        row[numbers] = 1
    return hot
