"""Figures that papers and official repositories publish. Standard library only."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Published:
    """One result as published by a paper or an official repository; never mixed with measured numbers.

    `gflops` is per view of `size`² pixels, `top1` and `top5` in percent, `params_m` in millions. `source` is the
    citation, `address` our model's if `model` is the paper's name, `gap` the reason if our counts are others. Where
    they are published, `config`, `checkpoint`, `log` and `labels` (the class names, in order) are addresses.
    """

    model: str
    dataset: str
    source: str
    top1: float | None = None
    top5: float | None = None
    gflops: float | None = None
    params_m: float | None = None
    views: str | None = None
    pretrain: str | None = None
    size: int | None = None
    address: str | None = None
    gap: str | None = None
    config: str | None = None
    checkpoint: str | None = None
    log: str | None = None
    labels: str | None = None
