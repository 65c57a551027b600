"""Features with their labels, as samples to train a probe on and as a stream to test it with."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from ...pipelines import Batch, labels
from ...pipelines.index import Index
from .store import Features

TESTED = 256  # samples at once
PIECE = 1 << 14  # samples that statistics are computed of at once


class Samples:
    """The features of readable videos, a sample each view; as a test stream it is an `accuracy.Stream`."""

    def __init__(self, features: Features, index: Index, device: torch.device) -> None:
        self.metric, self.listed, self.classes = index.metric, index.listed, index.classes
        self.decoder = features.decoder
        self.skipped = [(str(index[row].path), reason) for row, reason in features.skipped.items()]
        videos, self._views = features.values.shape[:2]
        self._values = features.values.flatten(0, 1)
        places = torch.arange(videos * self._views)
        unread = torch.tensor(sorted(features.skipped), dtype=torch.long)
        self._places = places[~torch.isin(places // self._views, unread)]
        self._labels = labels.of(index, range(len(index)))
        self._device = device

    def __len__(self) -> int:
        return len(self._places)

    def batch(self, samples: Tensor) -> Batch:
        """Return samples by their numbers, the features as float32 in place of the clips."""
        places = self._places[samples]
        video, view = places // self._views, places % self._views
        values, label = self._values[places].float().to(self._device), self._labels[video].to(self._device)
        return Batch(clip=values, label=label, video=video, view=view)

    def statistics(self) -> tuple[Tensor, Tensor]:
        """Return mean and variance of pooled features over the samples, each D, computed in float64."""
        mean = self._mean(lambda rows: rows)
        return mean.float(), self._mean(lambda rows: (rows - mean).square()).float()

    def _mean(self, function: Callable[[Tensor], Tensor]) -> Tensor:
        parts = (function(self._values[places].double()).sum(0) for places in self._places.split(PIECE))
        return sum(parts, torch.zeros((), dtype=torch.float64)) / len(self)

    def epoch(self) -> Iterator[Batch]:
        """Yield all samples in order."""
        for samples in torch.arange(len(self)).split(TESTED):
            yield self.batch(samples)
