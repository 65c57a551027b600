"""The weights of a checkpoint for testing and export: those of a run with an EMA are the averaged ones."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path

import torch
from torch import Tensor

from ... import models
from ...errors import UserError
from . import checkpoints, engine, run_folder

Weights = Path | dict[str, Tensor]
OBJECTIVES = re.compile(r"^(network|maskfeat\.encoder)\.")  # where the objectives keep the network


def find(checkpoint: Path, *, raw: bool = False) -> Weights:
    """Return the weights of a training run's `checkpoints` folder, or of one checkpoint in it; other paths as they are.

    A folder's shards of ZeRO 3 are consolidated. If the run kept an EMA, the weights are the averaged ones, or with
    `raw` the trained ones; which of them is printed to standard error. Raises UserError if the folder holds no
    checkpoint, or for `raw` of a file or a folder in transformers' layout, which have one set of weights.
    """
    if not checkpoint.is_dir() or (checkpoint / "config.json").is_file():
        if raw:
            raise UserError(f"--raw: {checkpoint} has one set of weights: name the run's checkpoints folder")
        return checkpoint
    tag = _tag(checkpoint)
    joined = engine.joined_weights(tag)
    state = models.read_checkpoint(tag if joined is None else joined).candidates[0].state
    state = {OBJECTIVES.sub("", key): value for key, value in state.items()}
    averaged = _averages(tag, state) if list(tag.glob("ema_*.pt")) and not raw else {}
    kind = "averaged weights (EMA)" if averaged else "trained weights"
    say(f"{tag}: {kind}")
    return {**state, **averaged}


def say(text: object) -> None:
    """Print to standard error, in the first of several ranks alone."""
    if os.environ.get("RANK", "0") == "0":
        print(text, file=sys.stderr)


def run_folder_of(checkpoint: Path) -> Path:
    """Return the folder of the run that a checkpoint was saved in: a file's own, `OUT` of `OUT/checkpoints/step_3`."""
    parent = checkpoint.absolute().parent
    return parent.parent if parent.name == "checkpoints" else parent


def check_classes(checkpoint: Path, classes: tuple[str, ...], data: Path | str) -> None:
    """Raise UserError if the training folder of the checkpoint names other classes than `classes`, those of `data`."""
    file = run_folder_of(checkpoint) / run_folder.CLASSES
    trained = tuple(json.loads(file.read_text())) if file.is_file() else classes
    if trained == classes:
        return
    numbers = range(min(len(trained), len(classes)))
    first = next((n for n in numbers if trained[n] != classes[n]), len(numbers))
    here, there = (f"'{names[first]}'" if first < len(names) else "no class" for names in (classes, trained))
    raise UserError(
        f"{data} has other classes than {file}: class {first} is {here}, and was {there} in training: index the data "
        "with the class list of the training data"
    )


def _tag(folder: Path) -> Path:
    """Return the checkpoint to read: the newest complete one of a run, else what `latest` names, else the folder."""
    if checkpoints.complete(folder):
        return checkpoints.newest(folder)
    latest = folder / "latest"
    return folder / latest.read_text().strip() if latest.is_file() else folder


def _averages(tag: Path, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the averages by parameter name, each in the shape of the trained weight in `state`."""
    ranks = checkpoints.read_state(tag)["ranks"] if (tag / checkpoints.STATE).is_file() else 1
    files = [file for rank in range(ranks) if (file := tag / f"ema_{rank}.pt").is_file()]  # several only under ZeRO 3
    parts = [torch.load(file, map_location="cpu", weights_only=True, mmap=True) for file in files]
    if not all(isinstance(part, dict) and part.keys() <= state.keys() for part in parts):
        raise UserError(
            f"{tag}: its averages do not name their weights (saved by an earlier version?): train on with --resume to "
            "save them anew, or take the trained weights with --raw"
        )
    whole = {name: torch.cat([part[name].flatten() for part in parts]) for name in parts[0]}
    return {name: value[: state[name].numel()].view_as(state[name]) for name, value in whole.items()}
