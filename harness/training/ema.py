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

    def save(self, path: Path) -> None:
        """Save this rank's averages by the names of the parameters."""
        torch.save(dict(zip(self._names, self.averages, strict=True)), path)

    def load(self, paths: list[Path], rank: int) -> None:
        """Load the files that all ranks saved, in rank order; the number of ranks may differ now. `rank` is this one's.

        Without ZeRO 3 all ranks' averages are the same, and the first file is used.
        """
        saved = [torch.load(path, weights_only=True, mmap=True) for path in paths]
        saved = [list(one.values()) if isinstance(one, dict) else one for one in saved]  # a list in earlier versions
        for average, parameter, *shards in zip(self.averages, self._parameters, *saved, strict=True):
            average.copy_(_reshard(shards, parameter, average.numel(), rank) if _is_sharded(parameter) else shards[0])


def _is_sharded(parameter: nn.Parameter) -> bool:
    return hasattr(parameter, "ds_tensor")


def _reshard(shards: list[Tensor], parameter: nn.Parameter, size: int, rank: int) -> Tensor:
    """Concatenate a parameter's flat shards and return this rank's slice (ZeRO 3 pads the last shard)."""
    full = torch.cat(shards)[: parameter.ds_numel]  # type: ignore[attr-defined]
    mine = full[rank * size : (rank + 1) * size]
    return nn.functional.pad(mine, (0, size - len(mine)))


def _local_shard(parameter: nn.Parameter) -> Tensor:
    """Return what this rank stores of a parameter: under ZeRO 3 its flat shard `ds_tensor`, else the parameter."""
    return getattr(parameter, "ds_tensor", parameter)
