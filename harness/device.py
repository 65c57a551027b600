"""Resolve the --device option."""

from __future__ import annotations

from ..errors import UserError, unknown
from ..spec import Device


def resolve_device(device: str | None) -> Device:
    """Return the given device, or for None `cuda` if there is a GPU, else `cpu`.

    Raises UserError if the given one is unknown or not available.
    """
    import torch

    if device not in (None, "cpu", "cuda"):
        raise unknown("device", device, ("cpu", "cuda"))
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: torch finds no CUDA device here: use --device cpu, or see `reelbench doctor`")
    if device is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    return "cuda" if device == "cuda" else "cpu"
