"""Options that several families of verbs share."""

from pathlib import Path
from typing import Annotated, Any

import typer

from ...errors import UserError, unknown
from . import fields

Out = Annotated[Path, typer.Option(help="Results folder.")]
Raw = Annotated[
    bool, typer.Option("--raw", help="Of a run's checkpoints folder: the trained weights, not their moving average.")
]
ModelOption = Annotated[
    list[str] | None,
    typer.Option("--option", help="NAME=VALUE for the model's constructor, such as frames=16; repeatable."),
]
DecoderOption = Annotated[
    str | None, typer.Option("--decoder", help="auto (the fastest measured), dali (GPU: NVDEC) or software (PyAV).")
]
Device = Annotated[str | None, typer.Option(help="cuda or cpu; the GPU where there is one.")]


def model_options(model: str, given: list[str] | None) -> dict[str, Any]:
    """Return the options of a model from the command line, typed as its constructor's arguments.

    Raises UserError if one is unknown or malformed.
    """
    from ... import models

    known = models.option_types(model) if given else {}
    parsed = {}
    for text in given or ():
        name, equals, value = text.partition("=")
        if not equals:
            raise UserError(f"--option {text}: write NAME=VALUE")
        if name not in known:
            raise unknown(f"option of {model}", name, known)
        parsed[name] = fields.parse(known[name], value, f"--option {name}")
    return parsed
