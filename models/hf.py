"""Models of transformers: `hf:ORG/NAME` of its Hub, `hf:FOLDER` of a local folder.

All of `AutoModelForVideoClassification`: TimeSformer, VideoMAE, ViViT, V-JEPA 2 and others. The configuration says
frames and size, the processor's file the normalization. Weights are loaded where there are any; a folder that holds
config.json alone gives random ones. Code in a repository is never run.
"""

from __future__ import annotations

import functools
import json
import math
import os
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import UserError
from ..spec import IMAGENET_MEAN, IMAGENET_STD, Clip
from . import _extras, _outline
from ._naming import Naming, State
from ._variant import Variant

# Frames from one to the next in the official training, which configurations do not say.
STRIDES = {"timesformer": 32, "videomae": 4, "vivit": 2, "vjepa2": 4}
WITH_CLASS_TOKEN = ("timesformer", "vivit")
PROCESSORS = ("video_preprocessor_config.json", "preprocessor_config.json", "processor_config.json")
WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
SIZES = ("image_size", "crop_size")
FRAMES = ("num_frames", "frames_per_clip")


class VideoClassifier(nn.Module):
    """A model of transformers behind this package's layout: `N 3 T H W` -> `N classes`.

    Its patches are in the order that Grad-CAM needs to know: `frames` of TimeSformer, else an `output_grid`, T h w.
    """

    def __init__(self, model: Any, frames: int, size: int) -> None:
        super().__init__()
        self.model = model
        config = model.config
        self.frames = frames
        if config.model_type != "timesformer":
            tubelet = getattr(config, "tubelet_size", 1)
            depth, patch = (tubelet, config.patch_size) if isinstance(tubelet, int) else tubelet[:2]
            self.output_grid = (frames // depth, size // _int(patch), size // _int(patch))

    def forward(self, clip: Tensor) -> Tensor:
        return self.model(**{self.model.main_input_name: clip.transpose(1, 2)}).logits

    def token_encoder(self) -> nn.Module:
        """Return the backbone alone, for probes: neither V-JEPA 2's own attentive pooler nor any classifier."""
        return VideoEncoder(self.model)


class VideoEncoder(nn.Module):
    """The backbone of a video classifier of transformers. `N 3 T H W` -> its last tokens, `N L D`."""

    def __init__(self, classifier: Any) -> None:
        super().__init__()
        self.input = classifier.main_input_name
        model = classifier.base_model
        self.model = model.encoder if model.config.model_type == "vjepa2" else model  # without its predictor

    def forward(self, clip: Tensor) -> Tensor:
        return self.model(**{self.input: clip.transpose(1, 2)}).last_hidden_state

    def pool(self, tokens: Tensor) -> Tensor:
        """Return the class token, or the mean where there is none. `N L D` -> `N D`."""
        return tokens[:, 0] if self.model.config.model_type in WITH_CLASS_TOKEN else tokens.mean(1)


def find(name: str) -> Variant:
    """Return the model of a folder or of the Hub.

    Raises UserError if transformers is missing, there is no such model, or it is none that classifies videos.
    """
    config = _config(name)
    clip = _clip(name, config)

    def build(num_classes: int = config.num_labels, *, frames: int = clip.frames, size: int = clip.size) -> nn.Module:
        return VideoClassifier(_network(name, num_classes, frames, size), frames, size)

    return Variant(
        build=build, clip=clip, num_classes=config.num_labels, head=_outline.heads(build),
        namings={"transformers": Naming(convert=functools.partial(_converted, name))}, weights=_has_weights(name),
        classes=_classes(config),
    )  # fmt: skip


def _transformers() -> Any:
    return _extras.load("transformers", "hf")


def _converted(name: str, state: State) -> State:
    """Rename the tensors of a file of transformers', which may be an older release's, as the model has them."""
    config = _config(name)
    config.num_labels = len(state["classifier.bias"])
    kind = type(_transformers().AutoModelForVideoClassification.from_config(config))
    model, found = kind.from_pretrained(None, config=config, state_dict=dict(state), output_loading_info=True)
    if any(found[what] for what in ("missing_keys", "unexpected_keys", "mismatched_keys")):
        raise UserError(f"these are no weights of hf:{name}")
    return {f"model.{key}": value for key, value in model.state_dict().items()}


def _config(name: str) -> Any:
    """Read the configuration of a video classifier."""
    transformers = _transformers()
    if os.path.isabs(name) and not (Path(name) / "config.json").is_file():
        raise UserError(f"hf:{name}: there is no config.json in it, which transformers writes beside its weights")
    try:
        config = transformers.AutoConfig.from_pretrained(name, trust_remote_code=False)
    except Exception as error:  # of the network, the Hub, or a damaged file
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"hf:{name} cannot be read ({reason}): check its name, or download it and write hf:FOLDER"
        ) from None
    known = transformers.MODEL_FOR_VIDEO_CLASSIFICATION_MAPPING
    if type(config) not in known:
        kinds = ", ".join(sorted(kind.model_type for kind in known))
        raise UserError(f"hf:{name} is a {config.model_type}, which classifies no videos: take a model of {kinds}")
    return config


def _network(name: str, num_classes: int, frames: int, size: int) -> Any:
    """Return transformers' model, with its weights if it has any and more than shapes are asked for."""
    config = _config(name)
    for fields, value in ((FRAMES, frames), (SIZES, size)):
        for field in fields:
            if hasattr(config, field):
                setattr(config, field, value)
    if num_classes != config.num_labels:
        config.num_labels = num_classes
    if torch.empty(0).is_meta or not _has_weights(name):
        return _transformers().AutoModelForVideoClassification.from_config(config, dtype=torch.float32)
    return _loaded(name, config)


def _loaded(name: str, config: Any) -> Any:
    """Load the weights, all but a classifier of other classes; no part of the backbone may stay random.

    A head's other parts, which pre-trained backbones lack, may (V-JEPA 2's pooler): that is printed.
    """
    transformers = _transformers()
    logging = transformers.utils.logging
    logging.set_verbosity_error()  # what it would warn of is an error below
    logging.disable_progress_bar()
    try:
        model, found = transformers.AutoModelForVideoClassification.from_pretrained(
            name, config=config, dtype=torch.float32, trust_remote_code=False, ignore_mismatched_sizes=True,
            output_loading_info=True,
        )  # fmt: skip
    except (OSError, RuntimeError, ValueError) as error:
        raise UserError(f"hf:{name}: its weights cannot be loaded ({' '.join(str(error).split())[:200]})") from None
    shaped = [key if isinstance(key, str) else key[0] for key in found["mismatched_keys"]]
    random = sorted(key for key in {*found["missing_keys"], *shaped} if not key.startswith("classifier."))
    lost = [key for key in random if key.startswith(f"{model.base_model_prefix}.")]
    if lost:
        more = f" and {len(lost) - 4} more" if len(lost) > 4 else ""
        raise UserError(
            f"hf:{name}: its weights do not fit the model of this clip: {', '.join(lost[:4])}{more} are missing or of "
            "another shape: take its own frames and size"
        )
    if random:
        parts = ", ".join(dict.fromkeys(f"{key.partition('.')[0]}.*" for key in random))
        print(f"hf:{name}: its weights are a backbone's, so {parts} start random", file=sys.stderr)
    return model


def _classes(config: Any) -> tuple[str, ...]:
    """Return the classes' names, if the configuration has more than transformers' own LABEL_0, LABEL_1, …."""
    names = tuple(str(config.id2label[number]) for number in sorted(config.id2label))
    return () if names == tuple(f"LABEL_{number}" for number in range(len(names))) else names


def _has_weights(name: str) -> bool:
    folder = Path(name)
    return not folder.is_dir() or any((folder / file).is_file() for file in WEIGHTS)


def _clip(name: str, config: Any) -> Clip:
    frames = next((getattr(config, field) for field in FRAMES if hasattr(config, field)), 16)
    size = _int(next((getattr(config, field) for field in SIZES if hasattr(config, field)), 224))
    processor = _processor(name)
    mean, std = normalization(processor) if processor else (IMAGENET_MEAN, IMAGENET_STD)
    shown = processor.get("size", {})
    short = shown.get("shortest_edge") or shown.get("height") if isinstance(shown, dict) else shown
    return Clip(
        frames=frames, stride=STRIDES.get(config.model_type, 1), size=size, mean=mean, std=std,
        short_side=max(size, short or math.ceil(size * 256 / 224)),
    )  # fmt: skip


def normalization(processor: dict[str, Any]) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Return the mean and deviation of the pixels, on the scale 0..255, by which a processor's file normalizes.

    It multiplies pixels by a factor, ViViT's then subtracts 1, before what it calls mean and deviation.
    """
    factor = processor.get("rescale_factor", 1 / 255) if processor.get("do_rescale", True) else 1.0
    kind = str(processor.get("video_processor_type") or processor.get("image_processor_type") or "")
    offset = float(bool(processor.get("offset", kind.startswith("Vivit"))))
    given = processor.get("do_normalize", True)
    mean = processor.get("image_mean", [value / 255 for value in IMAGENET_MEAN]) if given else [0.0] * 3
    std = processor.get("image_std", [value / 255 for value in IMAGENET_STD]) if given else [1.0] * 3
    reds = [((m + offset) / factor, s / factor) for m, s in zip(mean, std, strict=True)]
    means, deviations = zip(*reds, strict=True)
    return means, deviations


def _processor(name: str) -> dict[str, Any]:
    """Return what the processor's file says; {} if there is none."""
    for file in PROCESSORS:
        try:
            path = _transformers().utils.cached_file(name, file, _raise_exceptions_for_missing_entries=False)
        except OSError:
            path = None
        if path is not None:
            found = json.loads(Path(path).read_text())
            return found.get("video_processor") or found.get("image_processor") or found
    return {}


def _int(size: Any) -> int:
    return size if isinstance(size, int) else int(size[-1])
