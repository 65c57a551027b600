"""DualFormer (Liang et al., ECCV 2022; sail-sg/dualformer): attention in local windows, then to a pyramid of the clip.

    models.build("dualformer/t", num_classes=400)(clip)     # N 3 32 224 224 -> N 400

Even blocks attend inside 3D windows that never shift. Odd blocks let every token attend to the whole clip, pooled to a
fine grid and, in the first stages, to a coarse one as well. The pooling kernels, and the stages that have them, follow
from the grid that the model is built for (`frames`, `size`).
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import UserError
from ..spec import Clip, Published, Recipe, Views
from . import Variant, _layers, _windows
from ._swin import Block
from ._windows import Size3, WindowedAttention, Windows


class PatchEmbed(nn.Module):
    """Cut in patches and normalize: `N C D H W` -> `N D' H' W' C'`."""

    def __init__(self, ins: int, dim: int, patch: Size3) -> None:
        super().__init__()
        self.proj = nn.Conv3d(ins, dim, kernel_size=patch, stride=patch)
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.proj(x).permute(0, 2, 3, 4, 1))


class LocalAttention(WindowedAttention):
    """Attention inside windows that neither shift nor overlap. `B D H W C` -> the same."""

    def __init__(self, dim: int, heads: int, window: Size3) -> None:
        super().__init__()
        self.heads = heads
        self.window = window
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        batch, grid = x.shape[0], (x.shape[1], x.shape[2], x.shape[3])
        if any(g % w for g, w in zip(grid, self.window, strict=True)):
            raise UserError(
                f"dualformer: a grid of {grid} tokens is no multiple of the {self.window} window: frames must be a "
                f"multiple of {2 * self.window[0]} and the published sizes are multiples of 224"
            )
        windows = self.windows(grid, x.device)
        q, k, v = _layers.split_heads(self.qkv(windows.cut(x)), 3, self.heads)
        return windows.join(self.proj(_layers.attend(q, k, v)), batch)

    def plan(self, grid: Size3, device: torch.device) -> Windows:
        """Return how to cut a grid of D x H x W tokens."""
        return _windows.plan(grid, self.window, (0, 0, 0), device)


class PyramidAttention(nn.Module):
    """Every token attends to the clip pooled to a fine and a coarse grid. `B D H W C` -> the same.

    `fine` is the kernel of the fine pooling; (1, 1, 1) means none, and then no coarse grid either. `coarse` is the pair
    of kernels of the coarse pooling.
    """

    def __init__(self, dim: int, heads: int, fine: Size3, coarse: tuple[Size3, Size3] | None) -> None:
        super().__init__()
        self.heads = heads
        self.q = nn.Linear(dim, dim)
        self.kv = nn.Linear(dim, 2 * dim)
        self.proj = nn.Linear(dim, dim)
        pooled = fine != (1, 1, 1)
        self.sr = nn.Conv3d(dim, dim, fine, fine, groups=dim) if pooled else None
        self.norm = nn.LayerNorm(dim) if pooled else None
        self.lr = None
        if coarse is not None:
            first, second = coarse
            self.lr = nn.Sequential(
                nn.Conv3d(dim, dim, first, first, groups=dim),
                nn.BatchNorm3d(dim),
                nn.ReLU(inplace=True),
                nn.Conv3d(dim, dim, second, second, groups=dim),
            )

    def forward(self, x: Tensor) -> Tensor:
        (q,) = _layers.split_heads(self.q(x.flatten(1, 3)), 1, self.heads)
        k, v = _layers.split_heads(self.kv(self._pool(x)), 2, self.heads)
        return self.proj(_layers.attend(q, k, v)).view_as(x)

    def _pool(self, x: Tensor) -> Tensor:
        if self.sr is None or self.norm is None:
            return x.flatten(1, 3)
        image = x.permute(0, 4, 1, 2, 3)
        levels = [pool(image).flatten(2) for pool in (self.sr, self.lr) if pool is not None]
        return self.norm(torch.cat(levels, dim=2).transpose(1, 2))


class PositionEncoding(nn.Module):
    """A depthwise 3x3x3 convolution, added to its input: the only positions there are. `B D H W C` -> the same."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.proj = nn.Sequential(nn.Conv3d(dim, dim, 3, 1, 1, groups=dim))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.proj(x.permute(0, 4, 1, 2, 3)).permute(0, 2, 3, 4, 1)


class DualFormerBackbone(nn.Module):
    """`N 3 T H W` -> `N C D H W`, D = T / 2. The pooling kernels are those of a clip of `frames` x `size` x `size`."""

    def __init__(
        self,
        *,
        dims: tuple[int, ...],
        depths: tuple[int, ...],
        heads: tuple[int, ...],
        frames: int,
        size: int,
        local: Size3,
        fine: tuple[Size3, ...],
        coarse: Size3,
        drop_path: float,
        init_std: float,
        checkpoint_activations: bool,
    ) -> None:
        super().__init__()
        self.checkpoint_activations = checkpoint_activations
        rates = iter(_layers.drop_rates(drop_path, sum(depths)))
        self.patch_embeds, self.blocks, self.pos_block = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        ins = 3
        for stage, (dim, depth, h) in enumerate(zip(dims, depths, heads, strict=True)):
            side = size // (4 * 2**stage)
            pools = _pools((frames // 2, side, side), local, fine[stage], coarse)
            self.patch_embeds.append(PatchEmbed(ins, dim, (1, 2, 2) if stage else (2, 4, 4)))
            self.blocks.append(nn.ModuleList(_block(dim, h, local, pools, i, next(rates)) for i in range(depth)))
            self.pos_block.append(PositionEncoding(dim))
            ins = dim
        self.norm = nn.LayerNorm(ins)
        _layers.init_transformer(self, init_std)

    def forward(self, clip: Tensor) -> Tensor:
        run = partial(_layers.run, checkpointed=self.checkpoint_activations and self.training)
        x = clip
        for stage, (embed, blocks, position) in enumerate(
            zip(self.patch_embeds, self.blocks, self.pos_block, strict=True)
        ):
            x = embed(x if stage == 0 else x.permute(0, 4, 1, 2, 3))
            first, *rest = blocks  # type: ignore[misc]
            x = position(run(first, x))
            for block in rest:
                x = run(block, x)
        return self.norm(x).permute(0, 4, 1, 2, 3)


def _block(dim: int, heads: int, local: Size3, pools: tuple, index: int, drop_path: float) -> Block:
    attention = PyramidAttention(dim, heads, *pools) if index % 2 else LocalAttention(dim, heads, local)
    return Block(dim, attention, drop_path)


def _pools(grid: Size3, local: Size3, fine: Size3, coarse: Size3) -> tuple[Size3, tuple[Size3, Size3] | None]:
    """Return the kernels of a stage: fine, and the two of the coarse grid if it is small enough after the first.

    A clip shorter than the fine grid divides to zero, which the official code takes for "no pooling".
    """
    kernel = _divide(grid, fine)
    if kernel == (1, 1, 1) or 0 in kernel:
        return (1, 1, 1), None
    first = (1, local[1], local[2])
    second = _divide(_divide(grid, first), coarse)
    return kernel, None if 0 in second else (first, second)


def _divide(one: Size3, other: Size3) -> Size3:
    return tuple(a // b for a, b in zip(one, other, strict=True))  # type: ignore[return-value]


class TokenHead(_layers.PooledHead):
    """The pooled classifier and, for training with token labels, a second one for every token (`token_linear`)."""

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
    """`N 3 T H W` -> logits `N classes`. `token_labels` adds the head that `forward_tokens` needs."""

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
        """Return the logits `N classes` and those of every token, `N D H W classes`, for `token_label_loss`."""
        if not isinstance(self.cls_head, TokenHead):
            raise UserError("this DualFormer has no token head: build it with token_labels=True")
        x = self.backbone(clip)
        return self.cls_head(x), self.cls_head.tokens(x)

    def annotate(self, clip: Tensor) -> Tensor:
        """Return the classifier's logits at every token, `N D H W classes`: what a larger model teaches a smaller."""
        return self.cls_head.fc_cls(self.backbone(clip).permute(0, 2, 3, 4, 1))


def token_label_loss(
    logits: Tensor, tokens: Tensor, labels: Tensor, annotation: Tensor, *, gamma: float = 0.5, top: int = 5
) -> Tensor:
    """Return the loss of training with token labels: gamma x the clip's own + (1 - gamma) x the tokens'.

    `logits` are `N classes`, `tokens` `N D H W classes` (or `M classes`), `annotation` the annotator's logits of the
    same shape, or of a multiple of D: frames t and t + D are then averaged, as the official code does.
    """
    if tokens.ndim == 5 and annotation.shape[1] != tokens.shape[1]:
        annotation = annotation.unflatten(1, (-1, tokens.shape[1])).mean(dim=1)
    hard = F.cross_entropy(logits, labels)
    classes = tokens.shape[-1]
    soft = F.cross_entropy(tokens.reshape(-1, classes), token_targets(annotation, top).reshape(-1, classes))
    return gamma * hard + (1 - gamma) * soft


def token_targets(annotation: Tensor, top: int = 5) -> Tensor:
    """Return the soft label of each token: its `top` logits (ties kept), zeros elsewhere, then softmax over `... C`."""
    least = annotation.topk(top, dim=-1).values[..., -1:]
    return torch.where(annotation >= least, annotation, 0.0).softmax(dim=-1)


def official_keys(key: str) -> str | None:
    """Drop the annotation model that a token-label checkpoint carries along; the other names are ours."""
    return None if key.startswith("teacher.") else key


def inflate(model: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Turn the 2D checkpoint of the image model into a 3D one by the official rule.

    Filters are repeated along time and divided by its length, except the last of the coarse pooling, which starts as a
    plain mean whether the file has it or not. The official constants (1/16 and 1/4) are that mean for 32 frames.
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

# As built, the published configuration decays norms too and spares only the position encodings.
RECIPE = Recipe(
    epochs=30, batch=64, accumulate=2, lr=1e-3, weight_decay=0.02, warmup_epochs=2.5, schedule_by="epoch",
    precision="fp16", validate_epochs=5,
    lr_rules=((r"^backbone\.(?!pos_block)", 0.1),),
    decay_rules=((r"pos_block", 0.0), (r"", 1.0)),
)  # fmt: skip
TINY = replace(RECIPE, accumulate=1, warmup_epochs=3)
# The small data sets keep the normalization of a far older configuration, as their published weights do.
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
        params_m=params, views="4x1" if dataset.startswith("kinetics") else "4x3", pretrain=pretrain,
    )  # fmt: skip


VARIANTS = {
    "t": Variant(
        build=DualFormer,
        clip=CLIP,
        views=TEST,
        published=(_published("t", "kinetics400", 79.5, 60, 21.8, "ImageNet-1K", top5=94.14),),
        recipes={
            "kinetics400": TINY,
            "kinetics400_token_label": replace(TOKEN_LABEL, batch=128, warmup_epochs=3),
        },
        key_map=official_keys,
        inflate=inflate,
    ),
    "s": Variant(
        build=DualFormer,
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
        key_map=official_keys,
        inflate=inflate,
    ),
    "b": Variant(
        build=DualFormer,
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
        key_map=official_keys,
        inflate=inflate,
    ),
    "t_16f": Variant(
        build=DualFormer,
        kwargs={"frames": 16, "drop_path": 0.2},
        clip=CLIP_16,
        num_classes=101,
        views=Views(clips=4, crops=3, short_side=224),
        recipes={"ucf101": replace(FINE_TUNE, weight_decay=0.05, clip=None, drop_path=None)},
        key_map=official_keys,
        inflate=inflate,
    ),
    "micro": Variant(
        build=DualFormer,
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
        key_map=official_keys,
        inflate=inflate,
    ),
}
