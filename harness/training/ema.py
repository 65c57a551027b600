"""The exponential moving average (EMA) of a network's weights; under ZeRO 3, of this rank's shard of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn


class Ema:
    """EMA of the trainable parameters: `update` sets `average = decay x average + (1 - decay) x weight`.

    It starts from the weights at construction and is kept in fp32. Buffers, such as batch-norm statistics, are not
    averaged.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        named = [(name, p) for name, p in network.named_parameters() if p.requires_grad]
        self._names, self._parameters = [name for name, _ in named], [p for _, p in named]
        self.averages = [_local_shard(p).detach().float().clone() for p in self._parameters]

    @torch.no_grad()
    def update(self) -> None:
        """Update the averages with the current weights; to be called after every optimizer step."""
        for average, parameter in zip(self.averages, self._parameters, strict=True):
            average.lerp_(_local_shard(parameter).float(), 1 - self.decay)

    @contextmanager
    def swapped_in(self) -> Iterator[None]:
        """Swap the EMA weights into the network during the block; the trained weights are restored after it."""
        kept = [_local_shard(p).detach().clone() for p in self._parameters]
        self._put(self.averages)
        try:
            yield
        finally:
            self._put(kept)

    @torch.no_grad()
    def _put(self, values: list[Tensor]) -> None:
        for parameter, value in zip(self._parameters, values, strict=True):
            _local_shard(parameter).copy_(value)

    def by_name(self) -> dict[str, Tensor]:
        """Return this rank's averages by the names of the parameters, as they are saved."""
        return dict(zip(self._names, self.averages, strict=True))

    @torch.no_grad()
    def restart(self) -> None:
        """Start from the present weights, as a resumed run that had no averages before."""
        for average, parameter in zip(self.averages, self._parameters, strict=True):
            average.copy_(_local_shard(parameter))

    def load(self, paths: list[Path], rank: int) -> None:
        """Load averages that were saved whole (one file), or as all ranks' shards, in rank order.

        The number of ranks may differ now, and so may the ZeRO stage. `rank` is this one's.
        """
        saved = [torch.load(path, weights_only=True, mmap=True) for path in paths]
        saved = [list(one.values()) if isinstance(one, dict) else one for one in saved]  # a list in earlier versions
        for average, parameter, *shards in zip(self.averages, self._parameters, *saved, strict=True):
            average.copy_(_share(torch.cat([shard.flatten() for shard in shards]), parameter, average, rank))


def _share(whole: Tensor, parameter: nn.Parameter, average: Tensor, rank: int) -> Tensor:
    """Return this rank's part of a parameter's values: under ZeRO 3 a slice, the last one padded, else all of them."""
    if not hasattr(parameter, "ds_tensor"):
        return whole[: average.numel()].view_as(average)
    size = average.numel()
    mine = whole[: parameter.ds_numel][rank * size : (rank + 1) * size]  # type: ignore[attr-defined]
    return nn.functional.pad(mine, (0, size - len(mine)))


def _local_shard(parameter: nn.Parameter) -> Tensor:
    """Return what this rank stores of a parameter: under ZeRO 3 its flat shard `ds_tensor`, else the parameter."""
    return getattr(parameter, "ds_tensor", parameter)
