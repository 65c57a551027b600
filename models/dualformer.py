"""DualFormer (Liang et al., ECCV 2022; sail-sg/dualformer): attention in local windows, then to a pyramid of the clip.

    models.build("dualformer/t", num_classes=400)(clip)     # N 3 32 224 224 -> N 400

Even blocks attend within 3D windows that are not shifted. In odd blocks every token attends to the whole clip, pooled
to a fine grid and, in the first stages, to a coarse one as well. The pooling kernels, and which stages have them,
follow from the clip that the model is built for (`frames`, `size`).
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import UserError
from ..spec import Clip, Published, Recipe, Views
from . import Variant, _layers, _releases
from ._dualformer import DualFormerBackbone
from ._naming import Naming, by_key
from ._windows import Size3


class TokenHead(_layers.PooledHead):
    """The pooled classifier and, for training with token labels, an MLP classifier of tokens (`token_linear`)."""

    def __init__(self, dim: int, num_classes: int, dropout: float) -> None:
        super().__init__(dim, num_classes, dropout)
        self.token_linear = nn.Sequential(
            nn.Linear(dim, 2 * dim),
            nn.Dropout(dropout),
            nn.ReLU(),
            nn.Linear(2 * dim, 4 * dim),
            nn.Dropout(dropout),
            nn.ReLU(),
            nn.Linear(4 * dim, num_classes),
        )

    def tokens(self, x: Tensor) -> Tensor:
        """Return the logits of every token: `N C D H W` -> `N D H W classes`."""
        return self.token_linear(x.permute(0, 2, 3, 4, 1))


class DualFormer(nn.Module):
    """`N 3 T H W` -> logits `N classes`. `token_labels` adds the head that `forward_tokens` needs.

    `frames` and `size` (pixels) are those of the clip, `local`, `fine` and `coarse` T x H x W in tokens. Raises
    UserError if the grid of a stage is no multiple of `local`.
    """

    def __init__(
        self,
        *,
        num_classes: int = 400,
        dims: tuple[int, ...] = (64, 128, 256, 512),
        depths: tuple[int, ...] = (2, 2, 10, 4),
        heads: tuple[int, ...] = (2, 4, 8, 16),
        frames: int = 32,
        size: int = 224,
        local: Size3 = (8, 7, 7),
        fine: tuple[Size3, ...] = ((8, 7, 7), (8, 7, 7), (8, 7, 7), (16, 7, 7)),
        coarse: Size3 = (4, 4, 4),
        drop_path: float = 0.1,
        dropout: float = 0.5,
        token_labels: bool = False,
        init_std: float = 0.02,
        checkpoint_activations: bool = False,
    ) -> None:
        super().__init__()
        self.backbone = DualFormerBackbone(
            dims=dims,
            depths=depths,
            heads=heads,
            frames=frames,
            size=size,
            local=local,
            fine=fine,
            coarse=coarse,
            drop_path=drop_path,
            init_std=init_std,
            checkpoint_activations=checkpoint_activations,
        )
        head = TokenHead if token_labels else _layers.PooledHead
        self.cls_head = head(dims[-1], num_classes, dropout)

    def forward(self, clip: Tensor) -> Tensor:
        return self.cls_head(self.backbone(clip))

    def forward_tokens(self, clip: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logits `N classes` and those of every token, `N D H W classes`, for `token_label_loss`.

        Raises UserError if the model was built without `token_labels`.
        """
        if not isinstance(self.cls_head, TokenHead):
            raise UserError("this DualFormer has no token head: build it with token_labels=True")
        x = self.backbone(clip)
        return self.cls_head(x), self.cls_head.tokens(x)

    def annotate(self, clip: Tensor) -> Tensor:
        """Return the classifier's logits at every token, `N D H W classes`: soft token labels for a smaller model."""
        return self.cls_head.fc_cls(self.backbone(clip).permute(0, 2, 3, 4, 1))


def token_label_loss(
    logits: Tensor, tokens: Tensor, labels: Tensor, annotation: Tensor, *, gamma: float = 0.5, top: int = 5
) -> Tensor:
    """Return the token-labeling loss: gamma x the clip's cross-entropy + (1 - gamma) x the tokens'.

    `logits` are `N classes`, `labels` int64 `N` (or soft, `N classes`), `tokens` `N D H W classes` (or `M classes`),
    `annotation` the annotator's (teacher's) logits in the shape of `tokens`, or with a multiple of D: steps t and t + D
    are then averaged, as in the official code. A token's target is softened from its `top` classes, see
    `token_targets`.
    """
    if tokens.ndim == 5 and annotation.shape[1] != tokens.shape[1]:
        annotation = annotation.unflatten(1, (-1, tokens.shape[1])).mean(dim=1)
    hard = F.cross_entropy(logits, labels)
    classes = tokens.shape[-1]
    soft = F.cross_entropy(tokens.reshape(-1, classes), token_targets(annotation, top).reshape(-1, classes))
    return gamma * hard + (1 - gamma) * soft


def token_targets(annotation: Tensor, top: int = 5) -> Tensor:
    """Return the soft label of each token: logits but the `top` (ties kept) set to 0, then softmax over `... C`."""
    least = annotation.topk(top, dim=-1).values[..., -1:]
    return torch.where(annotation >= least, annotation, 0.0).softmax(dim=-1)


def official_keys(key: str) -> str | None:
    """Drop what only training with token labels needs, the teacher and the tokens' head; the other names are ours."""
    return None if key.startswith(("teacher.", "cls_head.token_linear.")) else key


def inflate(model: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the state dict of the image model's 2D checkpoint inflated to 3D by the official rule, without classifier.

    Filters are repeated along time and divided by its length, except the last of the coarse pooling, which is set
    to a mean filter whether the file has it or not. The official constants (1/16 and 1/4) are that mean for 32 frames.
    """
    own = model.state_dict()
    inflated: dict[str, Tensor] = {}
    for key, value in state.items():
        if key.startswith(("head.", "cls_head.", "mask")):
            continue
        name = f"backbone.{key.removeprefix('backbone.')}"
        if name in own and own[name].ndim == 5 and value.ndim == 4:
            time = own[name].shape[2]
            value = value.unsqueeze(2).repeat(1, 1, time, 1, 1) / time
        inflated[name] = value
    for name, value in own.items():
        if name.endswith("attn.lr.3.weight"):
            inflated[name] = torch.full_like(value, 1 / value[0].numel())
        elif name.endswith("attn.lr.3.bias"):
            inflated[name] = torch.zeros_like(value)
    return inflated


README = "sail-sg/dualformer, README"
CLIP = Clip(frames=32, stride=2, sampling="dense_middle")
TEST = Views(clips=4, crops=1, short_side=224)
SMALL = {"dims": (96, 192, 384, 768), "depths": (2, 2, 18, 2), "heads": (3, 6, 12, 24), "drop_path": 0.2}
BASE = {"dims": (128, 256, 512, 1024), "depths": (2, 2, 18, 2), "heads": (4, 8, 16, 32), "drop_path": 0.3}

# As built, the published configuration decays norms too and exempts the position encodings alone.
RECIPE = Recipe(
    epochs=30, batch=64, accumulate=2, lr=1e-3, weight_decay=0.02, warmup_epochs=2.5, schedule_by="epoch",
    precision="fp16", validate_epochs=5,
    lr_rules=((r"^backbone\.(?!pos_block)", 0.1),),
    decay_rules=((r"pos_block", 0.0), (r"", 1.0)),
)  # fmt: skip
TINY = replace(RECIPE, accumulate=1, warmup_epochs=3)
# The published weights of the small data sets were trained with the input normalization of an older configuration.
CLIP_16 = Clip(frames=16, stride=4, sampling="dense_middle", mean=(104.0, 117.0, 128.0), std=(1.0, 1.0, 1.0))
DIVING = replace(RECIPE, accumulate=1, warmup_epochs=1, validate_epochs=2, clip=replace(CLIP_16, frames=32))
FINE_TUNE = replace(DIVING, epochs=16, batch=128, accumulate=4, weight_decay=0.1, drop_path=0.3)
TOKEN_LABEL = replace(RECIPE, objective="token_label", annotator="dualformer/b")


def _published(
    model: str, dataset: str, top1: float, gflops: float, params: float, pretrain: str, *, top5: float | None = None
) -> Published:
    # The repository prints the GFLOPs of all views (240, 636, 1072 for four, 1908 for twelve); a row is per view.
    return Published(
        model=f"dualformer/{model}", dataset=dataset, source=README, top1=top1, top5=top5, gflops=gflops,
        params_m=params, views="4x1" if dataset.startswith("kinetics") else "4x3", pretrain=pretrain, size=224,
        **_releases.dualformer(model, dataset),
    )  # fmt: skip


_variant = partial(
    Variant, build=DualFormer, namings={"token-label training": Naming(convert=by_key(official_keys))}, inflate=inflate,
    gradcam_layer="backbone.blocks.-1.-1", attention_stage="backbone.blocks.-1",
)  # fmt: skip

VARIANTS = {
    "t": _variant(
        clip=CLIP,
        views=TEST,
        published=(_published("t", "kinetics400", 79.5, 60, 21.8, "ImageNet-1K", top5=94.14),),
        recipes={
            "kinetics400": TINY,
            "kinetics400_token_label": replace(TOKEN_LABEL, batch=128, warmup_epochs=3),
        },
    ),
    "s": _variant(
        kwargs=SMALL,
        clip=CLIP,
        views=TEST,
        published=(
            _published("s", "kinetics400", 80.6, 159, 48.9, "ImageNet-1K"),
            _published("s", "diving48", 81.8, 159, 48.9, "Kinetics-400", top5=97.82),
            _published("s", "hmdb51", 76.4, 159, 48.9, "Kinetics-400"),
            _published("s", "ucf101", 97.5, 159, 48.9, "Kinetics-400"),
        ),
        recipes={
            "kinetics400": RECIPE,
            "kinetics400_token_label": TOKEN_LABEL,
            "diving48": DIVING,
            "hmdb51": FINE_TUNE,
            "ucf101": FINE_TUNE,
        },
    ),
    "b": _variant(
        kwargs=BASE,
        clip=CLIP,
        views=TEST,
        published=(
            _published("b", "kinetics400", 81.1, 268, 86.8, "ImageNet-1K"),
            _published("b", "kinetics600", 85.2, 268, 86.8, "ImageNet-22K"),
        ),
        recipes={
            "kinetics400": replace(RECIPE, weight_decay=0.05),
            "kinetics600": replace(RECIPE, lr=5e-4, weight_decay=0.05),
        },
    ),
    "t_16f": _variant(
        kwargs={"frames": 16, "drop_path": 0.2},
        clip=CLIP_16,
        num_classes=101,
        views=Views(clips=4, crops=3, short_side=224),
        recipes={"ucf101": replace(FINE_TUNE, weight_decay=0.05, clip=None, drop_path=None)},
    ),
    "micro": _variant(
        kwargs={
            "dims": (48, 96),
            "depths": (2, 2),
            "heads": (2, 4),
            "frames": 8,
            "size": 32,
            "local": (2, 4, 4),
            "fine": ((2, 4, 4), (2, 4, 4)),
            "coarse": (2, 2, 2),
            "drop_path": 0.0,
            "dropout": 0.0,
            "init_std": 0.15,
        },
        clip=Clip(frames=8, stride=2, size=32, short_side=32),
        num_classes=8,
    ),
}
