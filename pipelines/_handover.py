"""DALI's outputs as torch's tensors, and when DALI may write to their memory again.

    DALI   | batch 1 | batch 2 ………………… | batch 3, where batch 1 was
    side             | copy 1 |         | copy 2 |
    torch  | train on batch 0 ……… | train on batch 1 ………

On a GPU each queues its work on streams of its own, and DALI knows nothing of torch's: memory that is given back while
work on it still waits in torch's queue may be written to first. So a batch is copied, on a stream beside training's.
DALI has its memory back once that stream is done: neither training nor the decoding of the next batch is waited for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


def joined(views: list[Any], *, on_gpu: bool) -> Tensor:
    """Return a batch's views, a DALI output each (V x C x T H W), as one tensor: N = V x views, a video's side by side.

    On a GPU nothing of it is DALI's memory, and it is complete for torch's current stream.
    """
    import torch

    if not on_gpu:
        return _joined(views)
    side, current = _side_stream(), torch.cuda.current_stream()
    with torch.cuda.stream(side):  # which DALI is told of: its work comes first
        clip = _joined(views)
        clip = clip.clone() if len(views) == 1 else clip
    side.synchronize()
    clip.record_stream(current)  # the allocator knows it as the side stream's
    return clip


def _joined(views: list[Any]) -> Tensor:
    import torch

    tensors = [torch.from_dlpack(view.as_tensor()) for view in views]
    return tensors[0] if len(tensors) == 1 else torch.stack(tensors, dim=1).flatten(0, 1)


_streams: dict[int, Any] = {}


def _side_stream() -> Any:
    """Return the stream for copies on the current device: always the same, so that its memory is used again."""
    import torch

    device = torch.cuda.current_device()
    if device not in _streams:
        _streams[device] = torch.cuda.Stream()
    return _streams[device]
