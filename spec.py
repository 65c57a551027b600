"""The core data types: Clip, Views, Published, Recipe, Case, Suite. Frozen, keyword-only, validated on construction.

Standard library only, so that listing suites is instant and reports render without torch. Derive an experiment from
another by replacing fields: `dataclasses.replace(case, batch=8)`. Invalid values raise UserError.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

from . import address
from .errors import UserError
from .metric_table import metric, stored_metric

Sampling = Literal["dense", "dense_middle", "dense_64", "window", "segments", "uniform"]
OutOfBound = Literal["loop", "repeat_last"]
Precision = Literal["fp32", "bf16", "fp16"]
Arithmetic = Literal["fp32", "tf32", "bf16", "fp16", "amp_bf16", "amp_fp16", "fp8"]
Activation = Literal["softmax", "sigmoid"]
Decoder = Literal["auto", "dali", "software"]
Mode = Literal["eager", "compile", "compile_max_autotune", "cuda_graphs"]
Crop = Literal["random_resized", "multi_scale", "random", "center"]
Optimizer = Literal["adamw", "sgd"]
Schedule = Literal["cosine", "step", "constant"]
By = Literal["step", "epoch"]
Objective = Literal["classify", "multilabel", "token_label", "maskfeat"]
T = TypeVar("T")


def option(default: T, text: str, *, flag: str = "") -> T:
    """Return a dataclass field that becomes a command-line option; `flag` overrides the flag derived from its name.

    Annotated as returning the default's type, as `dataclasses.field` is.
    """
    return dataclasses.field(default=default, metadata={"help": text, "flag": flag})


IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise UserError(message)


def _choice(owner: str, field: str, value: str, allowed: tuple[str, ...]) -> None:
    _require(value in allowed, f"{owner}: {field}={value!r} is none of {', '.join(allowed)}")


@dataclass(frozen=True, kw_only=True)
class Clip:
    """A model's input from a video: T frames of size x size RGB pixels, normalized by `mean` and `std` (0..255 scale).

    `sampling` chooses the frames:

    - `dense`: T frames `stride` apart; several test clips are spread evenly from the first possible start to the last,
      in `dense_middle` they are centered in equal parts of the video (MMAction 0.x: Video Swin, TPS, DualFormer);
    - `dense_64`: T frames spread over 64 (TSM's dense sampling);
    - `window`: T frames spread over T x stride frames, both ends included (ViViT's trainer);
    - `segments`: one frame from each of T equal segments (TSN); `uniform`: SlowFast's variant, ends included.

    `out_of_bound`: a dense clip longer than its video loops, or repeats the last frame.
    """

    frames: int = dataclasses.field(metadata={"help": "Frames of a clip."})
    stride: int = option(1, "Frames from one to the next, in dense sampling.")
    size: int = option(224, "Pixels of a clip's side.")
    short_side: int = option(256, "Pixels of the short side before the crop.")
    sampling: Sampling = option("dense", "Which frames of a video are shown.")
    out_of_bound: OutOfBound = option("loop", "How a dense clip goes on past the end of its video.")
    mean: tuple[float, float, float] = option(IMAGENET_MEAN, "Mean of the pixels, R,G,B in 0..255.")
    std: tuple[float, float, float] = option(IMAGENET_STD, "Standard deviation of the pixels, R,G,B.")

    def __post_init__(self) -> None:
        for field in ("frames", "stride", "size", "short_side"):
            value = getattr(self, field)
            _require(isinstance(value, int) and value >= 1, f"clip: {field}={value!r} must be a positive integer")
        _choice("clip", "sampling", self.sampling, get_args(Sampling))
        _choice("clip", "out_of_bound", self.out_of_bound, get_args(OutOfBound))
        _require(self.short_side >= self.size, f"clip: short_side={self.short_side} is below size={self.size}")
        _require(min(self.std) > 0, f"clip: std={self.std} must be positive")


@dataclass(frozen=True, kw_only=True)
class Views:
    """The multi-view test protocol: temporal `clips` x spatial `crops` per video, whose scores are averaged.

    Written `4x3`. `size` and `short_side`, in pixels, override the clip's in testing (Video Swin: short side 224).
    """

    clips: int = 1
    crops: Literal[1, 3, 10] = 1
    size: int | None = None
    short_side: int | None = None

    def __post_init__(self) -> None:
        _require(isinstance(self.clips, int) and self.clips >= 1, f"views: clips={self.clips!r} must be at least 1")
        _require(self.crops in (1, 3, 10), f"views: crops={self.crops!r} must be 1, 3 or 10")

    @classmethod
    def parse(cls, text: str) -> Views:
        """Parse `clips x crops`, such as `4x3`. Raises UserError otherwise."""
        match = re.fullmatch(r"(\d+)x(1|3|10)", text)
        _require(
            match is not None,
            f"views '{text}': write clips x crops, such as 1x1, 4x3 or 10x3 (crops: 1, 3 or 10)",
        )
        assert match is not None
        return cls(clips=int(match[1]), crops=int(match[2]))  # type: ignore[arg-type]

    @property
    def count(self) -> int:
        """Number of views per video."""
        return self.clips * self.crops

    def __str__(self) -> str:
        return f"{self.clips}x{self.crops}"


@dataclass(frozen=True, kw_only=True)
class Published:
    """One result as published by a paper or an official repository; never mixed with measured numbers.

    `gflops` is per view, `top1` and `top5` in percent, `params_m` in millions. `source` is the citation. Where they are
    published, `config`, `checkpoint`, `log` and `labels` (the class names, in order) are addresses.
    """

    model: str
    dataset: str
    source: str
    top1: float | None = None
    top5: float | None = None
    gflops: float | None = None
    params_m: float | None = None
    views: str | None = None
    pretrain: str | None = None
    config: str | None = None
    checkpoint: str | None = None
    log: str | None = None
    labels: str | None = None


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A training recipe: objective, optimizer, schedules, augmentation. Fields are the options of `reelbench train`.

    **Learning rate.** `warmup_by` and `schedule_by` say whether it is updated every step or every epoch e = 0, 1, …:

    - warm-up over W epochs, by step: the schedule's rate times a factor from `warmup_ratio` to 1, linearly; by epoch:
      `warmup_ratio` in the first epoch, the full rate already in epoch W - 1;
    - cosine by step: from the end of the warm-up to the end of training. By epoch: at e / E of its period from epoch 0
      on, multiplied by the warm-up (MMCV); if the warm-up is by epoch too: from its last epoch to the last of all.

    `lr_rules` and `decay_rules` are (pattern, multiplier) pairs, matched with `re.search` on parameter names; the first
    match wins. With both **mixup and cutmix**, each batch uses one of them with equal probability.
    """

    objective: Objective = option("classify", "What is learned.")
    epochs: float = option(30, "Passes over the data.")
    batch: int = option(64, "Global batch: over all ranks and accumulation steps.")
    accumulate: int = option(1, "Gradient accumulation steps.")
    optimizer: Optimizer = option("adamw", "Optimizer.")
    lr: float = option(1e-3, "Peak learning rate, at the recipe's batch.")
    auto_scale_lr: bool = option(
        False, "Scale the learning rate with another batch; a rate given too, only if this is."
    )
    weight_decay: float = option(0.05, "Weight decay.")
    weight_decay_end: float | None = option(None, "Where weight decay ends, along a cosine by epoch.")
    momentum: float = option(0.9, "Momentum of SGD.")
    nesterov: bool = option(False, "Nesterov's momentum, with SGD.")
    betas: tuple[float, float] = option((0.9, 0.999), "Betas of AdamW.")
    schedule: Schedule = option("cosine", "How the learning rate falls.")
    schedule_by: By = option("step", "How often the schedule changes the rate.")
    milestones: tuple[float, ...] = option((), "Epochs at which a step schedule divides the rate by ten.")
    warmup_epochs: float = option(0.0, "Epochs of linear warm-up.")
    warmup_ratio: float = option(0.1, "Share of the rate that the warm-up starts from.")
    warmup_by: By = option("step", "How often the warm-up changes the rate.")
    min_lr: float = option(0.0, "Learning rate that a cosine ends at.")
    clip_grad: float = option(0.0, "Largest gradient norm; 0 does not clip.")
    label_smoothing: float = option(0.0, "Label smoothing.")
    lr_rules: tuple[tuple[str, float], ...] = option((), "Factors of the rate, by patterns of parameter names.")
    decay_rules: tuple[tuple[str, float], ...] = option((), "Factors of the decay, by patterns of parameter names.")
    ema: float = option(0.0, "Decay of the weights' moving average; 0 is off.")
    precision: Precision = option("fp32", "Floating-point format of the forward and backward pass.")
    zero: Literal[0, 1, 2, 3] = option(0, "ZeRO stage.")
    crop: Crop = option("random_resized", "How a training clip is cropped.")
    crop_area: tuple[float, float] = option((0.08, 1.0), "Range of the crop's area in random_resized.")
    short_sides: tuple[int, int] | None = option(None, "Range of the short side before the crop, in pixels.")
    flip: float = option(0.5, "Probability of a left-right flip.")
    flip_swaps: tuple[tuple[int, int], ...] = option((), "Labels that a flip changes into each other.")
    flip_keeps: tuple[int, ...] = option((), "Labels that are never flipped.")
    rand_augment: str = option("", "RandAugment policy: imgaug_n4_m7, imgaug_default, torchvision_n2_m9, none.")
    color_jitter: float = option(0.0, "Strength of color jitter.")
    erase: float = option(0.0, "Probability of random erasing.")
    mixup: float = option(0.0, "Alpha of mixup's Beta law; 0 is off.")
    cutmix: float = option(0.0, "Alpha of cutmix's Beta law; 0 is off.")
    clip: Clip | None = option(None, "JSON file of the clip; the model's own by default.")
    drop_path: float | None = option(None, "Drop-path rate in place of the model's own.")
    annotator: str | None = option(None, "Address of the model that labels tokens.", flag="--annotator-model")
    linear_probe: bool = option(False, "Train the head alone.")
    validate_epochs: float = option(1.0, "Epochs between validations.")

    def __post_init__(self) -> None:
        for field in ("epochs", "batch", "accumulate", "lr", "validate_epochs"):
            value = getattr(self, field)
            _require(value > 0, f"recipe: {field}={value!r} must be positive")
        for field in (
            "weight_decay", "warmup_epochs", "min_lr", "clip_grad", "label_smoothing",
            "color_jitter", "mixup", "cutmix",
        ):  # fmt: skip
            value = getattr(self, field)
            _require(value >= 0, f"recipe: {field}={value!r} must not be negative")
        for field in ("flip", "erase"):
            _require(0 <= getattr(self, field) <= 1, f"recipe: {field}={getattr(self, field)} must lie in 0..1")
        _require(0 <= self.ema < 1, f"recipe: ema={self.ema} must lie in 0..1, 1 excluded")
        for field, allowed in (
            ("objective", Objective), ("optimizer", Optimizer), ("schedule", Schedule), ("schedule_by", By),
            ("warmup_by", By), ("precision", Precision), ("crop", Crop),
        ):  # fmt: skip
            _choice("recipe", field, getattr(self, field), get_args(allowed))
        _require(self.zero in (0, 1, 2, 3), f"recipe: zero={self.zero!r} must be 0, 1, 2 or 3")
        _require(
            self.batch % self.accumulate == 0,
            f"recipe: batch={self.batch} is no multiple of accumulate={self.accumulate}",
        )
        _require(
            not self.nesterov or (self.optimizer == "sgd" and self.momentum > 0),
            "recipe: nesterov=True needs optimizer='sgd' and a momentum",
        )
        _require(
            (self.objective == "token_label") == (self.annotator is not None),
            "recipe: objective='token_label' and annotator belong together: give both or neither",
        )

    def lr_at(self, batch: int) -> float:
        """Return the peak learning rate scaled linearly to another global batch size, whatever `auto_scale_lr` says."""
        return self.lr * batch / self.batch


@dataclass(frozen=True, kw_only=True)
class Case:
    """One case of a suite: everything needed to reproduce a measurement.

    `model` is an address (see `address`); a path in it is relative to the folder that the suite is run in. `data` is an
    index file, or a built-in synthetic set (`synthetic`, `synthetic-hard`). With a `recipe` the model is trained first,
    with a `checkpoint` (`$VARIABLES` and wildcards are expanded) loaded; with neither its weights are random, or those
    that a library's model comes with; of random ones accuracy metrics raise UserError. `precision` (`bf16` casts
    weights and activations, `amp_bf16` is autocast), `mode` and the `channels_last` memory format apply to the measured
    forward pass; training follows the recipe. `clip` and `views` override the model's own, `options` are arguments of
    its constructor. `batch=0` searches for the batch with the best throughput (latency is always at batch 1, memory
    then too). `decoder` is as in `pipelines.open`. `time_limit` is in seconds. `fingerprint` identifies the data's
    contents and is filled in when the suite runs.
    """

    model: str
    data: str = "synthetic"
    metrics: tuple[str, ...] = ("parameters", "flops", "memory", "latency", "throughput")
    recipe: Recipe | None = None
    checkpoint: str | None = None
    clip: Clip | None = None
    views: Views | None = None
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict, hash=False)
    batch: int = 0
    device: Literal["cpu", "cuda"] = "cpu"
    precision: Arithmetic = "fp32"
    mode: Mode = "eager"
    channels_last: bool = False
    ranks: int = 1
    workers: int = 2
    decoder: Decoder = "auto"
    seed: int = 0
    time_limit: float = 3600.0
    fingerprint: str = ""

    def __post_init__(self) -> None:
        needing = [name for name in self.metrics if metric(name).needs_weights]
        _choice(f"case {self.model}", "device", self.device, ("cpu", "cuda"))
        _choice(f"case {self.model}", "precision", self.precision, get_args(Arithmetic))
        _choice(f"case {self.model}", "mode", self.mode, get_args(Mode))
        _choice(f"case {self.model}", "decoder", self.decoder, get_args(Decoder))
        _require(self.batch >= 0, f"case {self.model}: batch={self.batch} must not be negative")
        _require(self.ranks >= 1 and self.workers >= 1, f"case {self.model}: ranks and workers must be at least 1")
        _require(self.time_limit > 0, f"case {self.model}: time_limit={self.time_limit} must be positive")
        own = address.parse(self.model).in_library  # what it comes with, the run will see
        trained = own or self.recipe is not None or self.checkpoint is not None
        _require(
            trained or not needing,
            f"case {self.model}: {' and '.join(needing)} needs weights: give a recipe or a checkpoint",
        )

    def to_json(self) -> dict[str, Any]:
        """Return the case as values that `json` can write (tuples stay tuples); `Case.from_json` reads them back."""
        values = dataclasses.asdict(self)
        if not self.options:
            del values["options"]  # ids from before there were any stay
        if self.decoder == "auto":
            del values["decoder"]  # the same
        return values

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Case:
        """Return the case that `to_json` wrote. Raises UserError if it has unknown fields or invalid values.

        The metrics may be those of a plug-in that is not here: results of it can still be reported.
        """
        case = from_fields(cls, {**data, "metrics": ()})
        object.__setattr__(case, "metrics", tuple(data.get("metrics", case.metrics)))  # frozen, and unchecked
        return case

    @cached_property
    def case_id(self) -> str:
        """The case's id: the first 12 hexadecimal digits of the SHA-256 of all its fields.

        These include `device` and `fingerprint`, which a run fills in: results may have other ids than the suite's
        cases.
        """
        text = json.dumps(self.to_json(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @property
    def label(self) -> str:
        """The model's address for people, without the folders above its file's."""
        return address.label(self.model)

    @property
    def shows_videos(self) -> bool:
        """Whether training or any metric uses the videos of `data`; otherwise the model only sees random clips."""
        return self.recipe is not None or any(stored_metric(name).needs_videos for name in self.metrics)

    @property
    def benchmark(self) -> str:
        """The case's name as a pytest-benchmark entry, such as `tsm/micro-cpu-fp32-eager`.

        Cases that differ only in other fields, such as `batch` or `seed`, share it.
        """
        clip = f"{self.clip.frames}x{self.clip.stride}x{self.clip.size}" if self.clip else ""
        options = ",".join(f"{name}={value}" for name, value in self.options.items())
        decoder = "" if self.decoder == "auto" else self.decoder
        layout = "channels_last" if self.channels_last else ""
        configuration = (options, decoder, self.device, self.precision, self.mode, layout)
        return "-".join(filter(None, (self.label, clip, *configuration)))


def from_fields(cls: type[T], data: dict[str, Any]) -> T:
    """Build a dataclass of this module from plain values. Raises UserError if a field is unknown or invalid."""
    fields = {f.name for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    strange = sorted(set(data) - fields)
    _require(not strange, f"{cls.__name__}: unknown field {', '.join(strange)} (written by another version?)")
    nested = {"recipe": Recipe, "clip": Clip, "views": Views}
    return cls(**{k: from_fields(nested[k], v) if k in nested and v else _tuples(v) for k, v in data.items()})


def _tuples(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _tuples(v) for name, v in value.items()}
    return tuple(_tuples(v) for v in value) if isinstance(value, list) else value


@dataclass(frozen=True, kw_only=True)
class Suite:
    """A named list of cases. A suite file defines `SUITE = Suite(...)` and imports nothing heavier than this module.

    `on_cuda` are additional cases that run only on a GPU.
    """

    name: str
    description: str
    cases: tuple[Case, ...]
    on_cuda: tuple[Case, ...] = ()

    def __post_init__(self) -> None:
        _require(len(self.cases) > 0, f"suite {self.name}: no cases")
        every = (*self.cases, *self.on_cuda)
        _require(all(isinstance(c, Case) for c in every), f"suite {self.name}: cases must be Case values")

    def on(self, device: str) -> tuple[Case, ...]:
        """Return the cases to measure on a device, `cpu` or `cuda`; their `device` fields are not changed."""
        return (*self.cases, *self.on_cuda) if device == "cuda" else self.cases


def read_json(kind: type[T], path: Path) -> T:
    """Build a dataclass of this module from a JSON file of its fields. Raises UserError if the file holds none."""
    try:
        return from_fields(kind, json.loads(path.read_text()))
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}: give a JSON file of {kind.__name__} fields") from None
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    except (ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: no {kind.__name__} ({error})") from None
