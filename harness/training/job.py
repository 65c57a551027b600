"""The training job: all options of a run, passed to every rank as `OUT/job.json`."""

from __future__ import annotations

import dataclasses
import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from ... import address
from ...errors import UserError, unknown
from ...spec import Clip, Decoder, Device, ProbeKind, Recipe, Views, option, read_json

MONITORS = ("csv", "tensorboard", "wandb")
FILE = "job.json"
CLIP = "clip.json"
# V-JEPA's for attentive probes (facebookresearch/jepa, configs/evals), which standardized features learn by too.
PROBE = Recipe(epochs=20, batch=256, lr=1e-3, weight_decay=0.01)
PATHS = ("data", "validation", "init_from", "pretrained", "annotator", "deepspeed")


@dataclass(frozen=True, kw_only=True)
class Job:
    """A complete description of a training run; each field with a help text is an option of `reelbench train`.

    The path in a model's address becomes absolute, as every rank may be started elsewhere.
    Raises UserError if a value is out of range or two contradict each other; files are not opened (see `check_job`).
    """

    model: str
    data: Path = field(metadata={"help": "Index of the training videos."})
    recipe: Recipe
    clip: Clip
    out: Path = option(Path("runs/train"), "Folder for checkpoints and logs.")
    validation: Path | None = option(None, "Index of the validation videos.", flag="--val")
    device: Device = "cpu"
    workers: int = option(2, "Reading processes a rank.")
    decoder: Decoder = option("auto", "auto (the fastest measured), dali (GPU: NVDEC) or software (PyAV).")
    seed: int = option(0, "Seed of weights, order and augmentation.")
    probe: ProbeKind | None = option(None, "Train a head alone, on the features of the frozen encoder.")
    train_views: str = option("1x1", "A probe's training views of a video, clips x crops: more for few videos.")
    init_from: Path | None = option(None, "Video checkpoint to fine-tune from.")
    init_from_partial: bool = option(False, "Fine-tune even if it lacks more than 5 % of the backbone.")
    pretrained: Path | None = option(None, "2D image checkpoint to inflate.")
    annotator: Path | None = option(None, "Weights of the model that labels tokens.")
    options: Mapping[str, Any] = field(default_factory=dict)
    deepspeed: Path | None = option(None, "Your own DeepSpeed JSON, merged.")
    offload: bool = option(False, "Keep ZeRO's state in the CPU's memory.")
    monitors: tuple[str, ...] = option((), "csv, tensorboard, wandb.", flag="--monitor")
    checkpoint_activations: bool = option(False, "Compute activations twice to save memory.")
    deterministic: bool = option(False, "Deterministic kernels, slower.")
    resume: bool = option(False, "Go on from OUT's newest checkpoint.")
    overwrite: bool = option(False, "Start anew in an OUT that holds a run: its checkpoints are deleted.")
    keep: int = option(2, "Newest checkpoints to keep; the best weights stay too.")
    save_steps: int = option(0, "Steps between checkpoints, besides validations.")
    max_skipped_steps: int = option(
        0, "Steps to skip for a loss or gradient that is not finite, before training stops.", flag="--skip-nan"
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "model", address.absolute(self.model))
        if not (isinstance(self.recipe, Recipe) and isinstance(self.clip, Clip)):
            raise UserError("a job needs a recipe and a clip")
        if self.device not in get_args(Device):
            raise unknown("device", self.device, get_args(Device))
        if self.probe not in (None, *get_args(ProbeKind)):
            raise unknown("--probe", str(self.probe), get_args(ProbeKind))
        if Views.parse(self.train_views).count > 1 and self.probe is None:
            raise UserError("--train-views belongs to --probe: training draws its clips at random")
        if self.decoder not in get_args(Decoder):
            raise unknown("decoder", self.decoder, get_args(Decoder))
        for name in self.monitors:
            if name not in MONITORS:
                raise unknown("monitor", name, MONITORS)
        for name, flag, least in (
            ("workers", "--workers", 1), ("keep", "--keep", 1), ("save_steps", "--save-steps", 0),
            ("max_skipped_steps", "--skip-nan", 0),
        ):  # fmt: skip
            if getattr(self, name) < least:
                raise UserError(f"{flag} {getattr(self, name)}: at least {least}")
        if self.resume and self.overwrite:
            raise UserError("--resume goes on with the run in OUT and --overwrite deletes it: give one of them")
        if self.init_from is not None and self.pretrained is not None:
            raise UserError("--init-from (a video checkpoint) and --pretrained (a 2D one): give one of them")

    def write(self) -> Path:
        """Write OUT/job.json, with absolute paths but without OUT and `overwrite`, and return its path.

        Also writes OUT/clip.json, for `eval`, `explain` and `export`.
        """
        self.out.mkdir(parents=True, exist_ok=True)
        values: dict[str, Any] = dataclasses.asdict(self)
        del values["out"]  # implied by the file's location, so that a folder can be moved
        del values["overwrite"]  # of this start alone: whoever repeats the job does not ask for it
        paths = {name: str(values[name].absolute()) for name in PATHS if values[name] is not None}
        _write_json(self.out / FILE, {**values, **paths})
        _write_json(self.out / CLIP, values["clip"])
        return self.out / FILE

    @classmethod
    def read(cls, path: Path) -> Job:
        """Return the job that `write` stored; the file's folder becomes OUT. Raises UserError if it holds no job."""
        job = read_json(cls, path)
        try:
            paths = {name: Path(getattr(job, name)) for name in PATHS if getattr(job, name) is not None}
        except TypeError as error:
            raise UserError(f"{path}: no Job ({error})") from None
        return dataclasses.replace(job, out=path.parent, **paths)


def _write_json(path: Path, values: dict[str, Any]) -> None:
    """Write atomically: another machine of the run may be reading or writing the same file."""
    part = path.with_suffix(f".{uuid.uuid4().hex}.part")
    part.write_text(json.dumps(values, indent=1))
    part.replace(path)


def find_recipe(model: str, name: str | None, *, probe: bool = False) -> Recipe:
    """Return a model's recipe by name, or that in a file if it ends in .json; for None a probe's, or `Recipe()`.

    Raises UserError if there is no such model, recipe or file.
    """
    if name is None:
        return PROBE if probe else Recipe()
    if name.endswith(".json"):
        return read_json(Recipe, Path(name))
    from ... import models

    recipes = models.find(model).recipes
    if not recipes:
        raise UserError(f"{model} has no recipe '{name}', nor any: leave --recipe out, or name a JSON file")
    if name not in recipes:
        raise unknown(f"recipe of {model}", name, recipes)
    return recipes[name]


def adjust(recipe: Recipe, **fields: Any) -> Recipe:
    """Return the recipe with fields replaced.

    With `auto_scale_lr`, a `batch` among the fields scales the learning rate linearly; a rate that is given with it
    only if `auto_scale_lr` is given too.
    """
    asked = "lr" not in fields or "auto_scale_lr" in fields
    if "batch" in fields and asked and fields.get("auto_scale_lr", recipe.auto_scale_lr):
        fields["lr"] = dataclasses.replace(recipe, lr=fields.get("lr", recipe.lr)).lr_at(fields["batch"])
    return dataclasses.replace(recipe, **fields)
