"""Translates errors of the GPU or its driver into one line: DALI's message, and the remedy."""

from __future__ import annotations

import re

from ..errors import UserError

MAX_LENGTH = 200  # characters
# (pattern of messages of DALI, CUDA or the driver, remedy); the first match counts.
REMEDIES = (
    (
        r"out of memory|OUT_OF_MEMORY|cudaErrorMemoryAllocation|CUDA allocation failed",
        "the GPU's memory is full: choose a smaller batch, or end other processes on it",
    ),
    (
        r"nvcuvid",
        "the driver's video library is missing (containers: NVIDIA_DRIVER_CAPABILITIES=compute,utility,video)",
    ),
    (
        r"[Nn]ot supported|NOT_SUPPORTED|too (?:small|large)|[Uu]nsupported codec",
        "this GPU does not decode such videos: `reelbench doctor` lists those it does; `reelbench data transcode` "
        "converts to them",
    ),
    (
        r"CUDA|NVDEC|NVIDIA|libcuda|[Dd]river|\bGPU\b",
        "the cause is the GPU or its driver, not a video: see `reelbench doctor`",
    ),
)


def gist(error: object) -> str:
    """Return DALI's error message on one line, without its traceback, cut off after `MAX_LENGTH` characters."""
    text = re.sub(r"C\+\+ context:.*|Current pipeline object is no longer valid\.", "", str(error))
    return " ".join(text.rpartition("encountered:\n")[2].split())[:MAX_LENGTH]


def explained(error: object) -> UserError | None:
    """Return an error of the GPU as a UserError with its remedy; None if the GPU is not the cause."""
    message = gist(error)
    for pattern, remedy in REMEDIES:
        if re.search(pattern, message):
            return UserError(f"GPU: {message}: {remedy}")
    return None
