"""What an error of the GPU or its driver means to a user: what DALI said, and what to do about it."""

from __future__ import annotations

import re

from ..errors import UserError

LENGTH = 200
# The first that fits: what it reads like in DALI's, CUDA's and the driver's messages, and the remedy.
REMEDIES = (
    (
        r"out of memory|OUT_OF_MEMORY|cudaErrorMemoryAllocation|CUDA allocation failed",
        "the GPU's memory is full: choose a smaller batch, or end what else runs on it",
    ),
    (
        r"nvcuvid",
        "the driver's video part is missing or broken (containers: NVIDIA_DRIVER_CAPABILITIES=compute,utility,video)",
    ),
    (
        r"[Nn]ot supported|NOT_SUPPORTED|too (?:small|large)|[Uu]nsupported codec",
        "this GPU does not decode such videos: `reelbench doctor` says which it does; `reelbench data transcode` makes "
        "some of them",
    ),
    (
        r"CUDA|NVDEC|NVIDIA|libcuda|[Dd]river|\bGPU\b",
        "the GPU or its driver is at fault, no video: see `reelbench doctor`",
    ),
)


def gist(error: object) -> str:
    """Return what DALI's error says on one line, without the way to it."""
    text = re.sub(r"C\+\+ context:.*|Current pipeline object is no longer valid\.", "", str(error))
    return " ".join(text.rpartition("encountered:\n")[2].split())[:LENGTH]


def explained(error: object) -> UserError | None:
    """Return a device's error with its remedy; None where the error is none of a device."""
    said = gist(error)
    for pattern, remedy in REMEDIES:
        if re.search(pattern, said):
            return UserError(f"GPU: {said}: {remedy}")
    return None
