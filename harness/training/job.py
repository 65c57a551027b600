"""A training job, and the options that describe it: the same for `reelbench train` and the launcher's module.

Read by `reelbench train`, which starts the DeepSpeed launcher, and by `reelbench.harness.training` in every rank.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ...errors import UserError, unknown
from ...spec import Clip, Recipe, change, read_json

Arguments = list[str]
MONITORS = ("csv", "tensorboard", "wandb")


@dataclass(frozen=True, kw_only=True)
class Job:
    """Everything a training run needs. `data` is the training index, `validation` an optional second one.

    `recipe` and `clip` travel to the ranks as `OUT/recipe.json` and `OUT/clip.json`. `keep` checkpoints stay, written
    at every validation and every `save_steps` steps; `skip_nan` steps may have a loss that is not finite.
    """

    model: str
    data: Path
    recipe: Recipe
    out: Path
    clip: Clip
    validation: Path | None = None
    device: Literal["cpu", "cuda"] = "cpu"
    workers: int = 2
    seed: int = 0
    init_from: Path | None = None
    pretrained: Path | None = None
    annotator: Path | None = None
    deepspeed: Path | None = None
    offload: bool = False
    monitors: tuple[str, ...] = ()
    checkpoint_activations: bool = False
    deterministic: bool = False
    resume: bool = False
    keep: int = 2
    save_steps: int = 0
    skip_nan: int = 0

    def __post_init__(self) -> None:
        for name in self.monitors:
            if name not in MONITORS:
                raise unknown("monitor", name, MONITORS)
        if self.init_from is not None and self.pretrained is not None:
            raise UserError("--init-from (a video checkpoint) and --pretrained (a 2D one): give one of them")

    def write(self) -> tuple[Path, Path]:
        """Write the recipe and the clip as JSON into OUT; return the files."""
        self.out.mkdir(parents=True, exist_ok=True)
        recipe, clip = self.out / "recipe.json", self.out / "clip.json"
        recipe.write_text(json.dumps(dataclasses.asdict(self.recipe), indent=1))
        clip.write_text(json.dumps(dataclasses.asdict(self.clip), indent=1))
        return recipe, clip

    def arguments(self) -> Arguments:
        """Return the command line that gives this job to every rank."""
        recipe, clip = self.write()
        values = {
            "--data": self.data,
            "--val": self.validation,
            "--recipe": recipe,
            "--clip": clip,
            "--out": self.out,
            "--device": self.device,
            "--workers": self.workers,
            "--seed": self.seed,
            "--init-from": self.init_from,
            "--pretrained": self.pretrained,
            "--annotator": self.annotator,
            "--deepspeed": self.deepspeed,
            "--monitor": ",".join(self.monitors) or None,
            "--keep": self.keep,
            "--save-steps": self.save_steps,
            "--skip-nan": self.skip_nan,
        }
        switches = {
            "--offload": self.offload,
            "--checkpoint-activations": self.checkpoint_activations,
            "--deterministic": self.deterministic,
            "--resume": self.resume,
        }
        flags = [text for flag, value in values.items() if value is not None for text in (flag, str(value))]
        return [self.model, *flags, *(flag for flag, on in switches.items() if on)]


def find_recipe(model: str, name: str | None) -> Recipe:
    """Return a model's own recipe by name, or the one in a JSON file; without a name, the plain defaults."""
    if name is None:
        return Recipe()
    if name.endswith(".json"):
        return read_json(Recipe, Path(name))
    from ... import models

    recipes = models.find(model).recipes
    if not recipes:
        raise UserError(f"{model} has no recipe '{name}', nor any: leave --recipe out, or name a JSON file")
    if name not in recipes:
        raise unknown(f"recipe of {model}", name, recipes)
    return recipes[name]


def adjust(recipe: Recipe, **flags: Any) -> Recipe:
    """Return the recipe with the given fields replaced; its learning rate follows the batch where `auto_scale_lr`."""
    given = {name: value for name, value in flags.items() if value is not None}
    if given.get("rand_augment") == "none":
        given["rand_augment"] = ""
    if given.get("auto_scale_lr", recipe.auto_scale_lr) and "batch" in given:
        given["lr"] = change(recipe, lr=given.get("lr")).lr_at(given["batch"])
    return change(recipe, **given)


def find_clip(
    model: str, recipe: Recipe, file: Path | None, *, frames: int | None, stride: int | None, size: int | None
) -> Clip:
    """Return the recipe's clip, else the model's own, or the one in a JSON file, with the given numbers replaced."""
    from ... import models

    given = None if file is None else read_json(Clip, file)
    return change(models.choose_clip(model, recipe, given), frames=frames, stride=stride, size=size)
