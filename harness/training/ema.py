"""The exponential moving average of a network's weights, whole or, under ZeRO 3, of this rank's share of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn


class Ema:
    """Averages the trained parameters: `average = decay x average + (1 - decay) x weight` after every step.

    Buffers, such as the statistics of a batch norm, are not averaged.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self._parameters = [p for p in network.parameters() if p.requires_grad]
        self.averages = [_share(p).detach().float().clone() for p in self._parameters]

    @torch.no_grad()
    def update(self) -> None:
        """Take the weights of the present step in."""
        for average, parameter in zip(self.averages, self._parameters, strict=True):
            average.lerp_(_share(parameter).float(), 1 - self.decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Let the network have the averaged weights inside the `with` block."""
        kept = [_share(p).detach().clone() for p in self._parameters]
        self._put(self.averages)
        try:
            yield
        finally:
            self._put(kept)

    @torch.no_grad()
    def _put(self, values: list[Tensor]) -> None:
        for parameter, value in zip(self._parameters, values, strict=True):
            _share(parameter).copy_(value)

    def save(self, path: Path) -> None:
        """Write the averages."""
        torch.save(self.averages, path)

    def load(self, paths: list[Path], rank: int) -> None:
        """Read what every rank saved, however many they were; `rank` is this one's place among those there are now."""
        saved = [torch.load(path, weights_only=True, mmap=True) for path in paths]
        for average, parameter, *shares in zip(self.averages, self._parameters, *saved, strict=True):
            average.copy_(_cut(shares, parameter, average.numel(), rank) if _is_shared(parameter) else shares[0])


def _is_shared(parameter: nn.Parameter) -> bool:
    return hasattr(parameter, "ds_tensor")


def _cut(shares: list[Tensor], parameter: nn.Parameter, size: int, rank: int) -> Tensor:
    """Join the flat shares of a parameter and return this rank's: ZeRO 3 pads the end, so that all are of one size."""
    whole = torch.cat(shares)[: parameter.ds_numel]  # type: ignore[attr-defined]
    mine = whole[rank * size : (rank + 1) * size]
    return nn.functional.pad(mine, (0, size - len(mine)))


def _share(parameter: nn.Parameter) -> Tensor:
    """Return the tensor that this rank keeps of a parameter: ZeRO 3 leaves a slice in `ds_tensor`."""
    return getattr(parameter, "ds_tensor", parameter)
