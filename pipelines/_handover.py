"""DALI's outputs as torch tensors, and when DALI may overwrite their memory.

    DALI   | batch 1 | batch 2 ………………… | batch 3, where batch 1 was
    side             | copy 1 |         | copy 2 |
    torch  | train on batch 0 ……… | train on batch 1 ………

On a GPU, DALI and torch use different CUDA streams, and DALI does not synchronize with torch's: it could overwrite a
batch that kernels in torch's queue have yet to read. So each batch is copied on a side stream, and DALI gets its memory
back when that copy is done. Neither training nor the decoding of the next batch waits for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


def to_torch(views: list[Any], *, on_gpu: bool) -> Tensor:
    """Return a batch's views (one DALI output each, V of C T H W) as one tensor N C T H W, N = V x views, video-major.

    On a GPU it is a copy, ready for use on torch's current stream. On a CPU a single view shares DALI's memory.
    """
    import torch

    if not on_gpu:
        return _stack_views(views)
    side, current = _side_stream(), torch.cuda.current_stream()
    with torch.cuda.stream(side):  # DLPack tells DALI of this stream, which then waits for DALI's work
        clip = _stack_views(views)
        clip = clip.clone() if len(views) == 1 else clip
    side.synchronize()
    clip.record_stream(current)  # it was allocated on the side stream
    return clip


def _stack_views(views: list[Any]) -> Tensor:
    import torch

    tensors = [torch.from_dlpack(view.as_tensor()) for view in views]
    return tensors[0] if len(tensors) == 1 else torch.stack(tensors, dim=1).flatten(0, 1)


_streams: dict[int, Any] = {}


def _side_stream() -> Any:
    """Return the current device's stream for copies: always the same one, so that the allocator reuses its memory."""
    import torch

    device = torch.cuda.current_device()
    if device not in _streams:
        _streams[device] = torch.cuda.Stream()
    return _streams[device]
