"""What an encoder is, as a hash: the same for two encoders that compute the same features."""

from __future__ import annotations

import contextlib
import hashlib
import inspect
from pathlib import Path

import torch
from torch import nn


def of(encoder: nn.Module) -> str:
    """Return a hash (16 hexadecimal digits) of an encoder's structure, weights, and the files of its modules' code."""
    digest = hashlib.blake2b(repr(encoder).encode(), digest_size=8)
    for name, tensor in encoder.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    for file in sorted({file for module in encoder.modules() if (file := _source(type(module))) is not None}):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _source(kind: type) -> Path | None:
    with contextlib.suppress(TypeError, OSError):  # of a class that was made at run time
        path = Path(inspect.getfile(kind))
        return path if path.is_file() else None
    return None
