"""Options that several families of verbs share."""

from pathlib import Path
from typing import Annotated

import typer

Out = Annotated[Path, typer.Option(help="Results folder.")]
Raw = Annotated[
    bool, typer.Option("--raw", help="Of a run's checkpoints folder: the trained weights, not their moving average.")
]
Device = Annotated[str | None, typer.Option(help="cuda or cpu; the GPU where there is one.")]
