"""The device that was asked for, or else the GPU where there is one."""

from __future__ import annotations

from typing import Literal

from ..errors import UserError, unknown


def resolve_device(device: str | None) -> Literal["cpu", "cuda"]:
    """Return the device to use: the one asked for, else the GPU where there is one."""
    import torch

    if device not in (None, "cpu", "cuda"):
        raise unknown("device", device, ("cpu", "cuda"))
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: torch finds no CUDA device here: use --device cpu, or see `reelbench doctor`")
    if device is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    return "cuda" if device == "cuda" else "cpu"
