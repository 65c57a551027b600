"""Training objectives: each is an `nn.Module` that maps a batch to its loss.

Mixup and cutmix are drawn from seed and step, MaskFeat's masks also from the videos' rows, so resumed runs repeat them;
dropout draws from torch's global generator.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...errors import UserError
from ...models.dualformer import token_label_loss
from ...models.maskfeat import MaskFeat, draw_mask
from ...spec import Clip, Recipe


@dataclass(frozen=True)
class Draw:
    """What a batch's randomness is drawn from: the run's seed, the optimizer step, each video's row in the index."""

    seed: int
    step: int
    rows: tuple[int, ...]


class Classify(nn.Module):
    """Cross-entropy with label smoothing, mixup and cutmix; for `multilabel` binary cross-entropy without smoothing.

    Labels are int64 N, or float N×K: a distribution over the classes, multi-hot for `multilabel`.
    """

    def __init__(self, network: nn.Module, recipe: Recipe, num_classes: int) -> None:
        super().__init__()
        self.network, self.recipe, self.num_classes = network, recipe, num_classes

    def forward(self, clip: Tensor, label: Tensor, draw: Draw) -> Tensor:
        """Return the mean loss of a batch: `clip` N×3×T×H×W; mixup and cutmix are drawn from `draw`."""
        recipe, mixes = self.recipe, self.recipe.mixup > 0 or self.recipe.cutmix > 0
        multilabel = recipe.objective == "multilabel"
        if mixes or multilabel:
            label = soft_labels(label, self.num_classes, 0.0 if multilabel else recipe.label_smoothing)
        if mixes:
            clip, label = mix(clip, label, np.random.default_rng((draw.seed, draw.step)), recipe)
        logits = self.network(clip).float()
        if multilabel:
            return F.binary_cross_entropy_with_logits(logits, label)
        return F.cross_entropy(logits, label, label_smoothing=0.0 if mixes else recipe.label_smoothing)


class LabelTokens(nn.Module):
    """DualFormer's token labeling: a frozen annotator network labels every token of the same clip.

    The annotator is not a submodule, so it is neither trained nor saved, nor moved by `to`, and stays in eval mode (in
    the official code it ends up in training mode, with dropout and batch statistics). The recipe's mixup, cutmix and
    label smoothing are not applied.
    """

    def __init__(self, network: nn.Module, annotator: nn.Module) -> None:
        super().__init__()
        self.network = network
        self._annotator = (annotator.requires_grad_(False).eval(),)

    def forward(self, clip: Tensor, label: Tensor, draw: Draw) -> Tensor:
        """Return the mean loss of a batch: `clip` N×3×T×H×W, `label` int64 N; `draw` is ignored."""
        with torch.no_grad():
            annotation = self._annotator[0].annotate(clip)  # type: ignore[operator]
        logits, tokens = self.network.forward_tokens(clip)  # type: ignore[operator]
        return token_label_loss(logits.float(), tokens.float(), label, annotation.float())


class PredictFeatures(nn.Module):
    """MaskFeat pre-training: predict HOG features of masked patches. Labels are ignored, and so are mixup and cutmix.

    `network` is an MViT with `decoder_pred`; its classifier is frozen. `clip` gives the normalization to be undone.
    """

    def __init__(self, network: nn.Module, clip: Clip) -> None:
        super().__init__()
        network.get_submodule("cls_head").requires_grad_(False)
        self.maskfeat = MaskFeat(network)  # type: ignore[arg-type]
        self.clip = clip

    @property
    def network(self) -> nn.Module:
        """The encoder that is pre-trained."""
        return self.maskfeat.encoder

    def forward(self, clip: Tensor, label: Tensor, draw: Draw) -> Tensor:
        """Return the mean loss of a batch: `clip` N×3×T×H×W, normalized; its N masks are drawn from `draw`."""
        masks = [
            draw_mask(random.Random(f"{draw.seed} {draw.step} {row}"), self.maskfeat.grid) for row in draw.rows
        ]  # a string, because hashes of other seeds may differ between processes
        return self.maskfeat.loss(clip, self._pixels(clip), masks).float()

    def _pixels(self, clip: Tensor) -> Tensor:
        """Undo the normalization: `N 3 T H W` -> the same on the 0..255 scale."""
        mean, std = (torch.tensor(v, device=clip.device).view(3, 1, 1, 1) for v in (self.clip.mean, self.clip.std))
        return (clip * std + mean).clamp(0, 255)


class Probe(Classify):
    """A linear probe: all but the head is frozen, in eval mode.

    `head` are the name prefixes of the head's parameters. Its linear layers are reinitialized (weights normal with
    standard deviation 0.01, biases 0) and trained, with the head's dropout; its other layers are frozen too.
    """

    def __init__(self, network: nn.Module, recipe: Recipe, num_classes: int, head: tuple[str, ...]) -> None:
        super().__init__(network.requires_grad_(False), recipe, num_classes)
        self._heads = [network.get_submodule(prefix.rstrip(".")) for prefix in head]
        for layer in (layer for module in self._heads for layer in module.modules()):
            if isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, std=0.01)
                nn.init.zeros_(layer.bias)
                layer.requires_grad_(True)

    def train(self, mode: bool = True) -> Probe:  # noqa: D102
        super().train(mode)
        self.network.eval()
        for layer in (layer for module in self._heads for layer in module.modules()):
            layer.training = mode and not _is_frozen(layer)
        return self


def _is_frozen(layer: nn.Module) -> bool:
    """Whether a layer has tensors of its own, such as a norm's, and none of them is trained."""
    own = [*layer.parameters(recurse=False), *layer.buffers(recurse=False)]
    return bool(own) and not any(tensor.requires_grad for tensor in own)


Objective = Classify | LabelTokens | PredictFeatures


def soft_labels(label: Tensor, classes: int, smoothing: float) -> Tensor:
    """Return labels as distributions: int64 N or float N×K -> float N×K, the share `smoothing` spread evenly."""
    if not label.is_floating_point():
        label = F.one_hot(label, classes).float()
    return label * (1 - smoothing) + smoothing / classes


def mix(clip: Tensor, label: Tensor, rng: np.random.Generator, recipe: Recipe) -> tuple[Tensor, Tensor]:
    """Mix each clip of a batch, and its label, with the batch in reversed order (clip i with clip N-1-i).

    `clip` is N×3×T×H×W, `label` float N×K. Mixup (Zhang et al. 2017) blends the pixels, cutmix (Yun et al. 2019) pastes
    one box into all frames; with both, one of them is chosen with equal probability, and the recipe must have one of
    them. One draw per batch, as in timm's batch mode.
    """
    cuts = recipe.cutmix > 0 and (recipe.mixup == 0 or rng.random() < 0.5)
    alpha = recipe.cutmix if cuts else recipe.mixup
    share, other = float(rng.beta(alpha, alpha)), clip.flip(0)
    if cuts:
        top, bottom, left, right = _box(clip.shape[-2], clip.shape[-1], share, rng)
        clip = clip.clone()
        clip[..., top:bottom, left:right] = other[..., top:bottom, left:right]
        share = 1 - (bottom - top) * (right - left) / (clip.shape[-2] * clip.shape[-1])
    else:
        clip = share * clip + (1 - share) * other
    return clip, share * label + (1 - share) * label.flip(0)


def _box(height: int, width: int, share: float, rng: np.random.Generator) -> tuple[int, int, int, int]:
    """Return a random box (top, bottom, left, right) of area `1 - share` of the frame, clipped at the border."""
    side = (1 - share) ** 0.5
    half_height, half_width = int(height * side) // 2, int(width * side) // 2
    y, x = int(rng.integers(height)), int(rng.integers(width))
    return max(y - half_height, 0), min(y + half_height, height), max(x - half_width, 0), min(x + half_width, width)


def objective(
    network: nn.Module,
    recipe: Recipe,
    *,
    num_classes: int,
    clip: Clip,
    head: tuple[str, ...],
    annotator: nn.Module | None,
) -> Objective:
    """Return the recipe's objective for a network; `head` are the name prefixes of its classifier's parameters.

    A linear probe takes precedence over `recipe.objective`. `token_label` needs the `annotator`, and a network built
    with `token_labels`. Raises UserError for `maskfeat` if the network is no MViT built for it.
    """
    if recipe.linear_probe:
        return Probe(network, recipe, num_classes, head)
    if recipe.objective == "token_label":
        assert annotator is not None
        return LabelTokens(network, annotator)
    if recipe.objective == "maskfeat":
        if not hasattr(network, "decoder_pred"):
            raise UserError("objective 'maskfeat' pre-trains an MViT, such as mvit/b_16x4_maskfeat")
        return PredictFeatures(network, clip)
    return Classify(network, recipe, num_classes)
