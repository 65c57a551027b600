"""A model that sees nothing but the mean color of a clip: what any other must beat."""

from __future__ import annotations

from reelbench.models import Variant
from reelbench.spec import Clip
from torch import Tensor, nn


class MeanColor(nn.Module):
    """Logits `N classes` of clips `N 3 T H W`."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.cls_head = nn.Linear(3, num_classes)

    def forward(self, clip: Tensor) -> Tensor:
        """Return the logits."""
        return self.cls_head(clip.mean((2, 3, 4)))


VARIANTS = {"linear": Variant(build=MeanColor, clip=Clip(frames=8, size=64, short_side=64))}
