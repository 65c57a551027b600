"""Options that several families of verbs share."""

from pathlib import Path
from typing import Annotated

import typer

Out = Annotated[Path, typer.Option(help="Results folder.")]
Device = Annotated[str | None, typer.Option(help="cuda or cpu; the GPU where there is one.")]
