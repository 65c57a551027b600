"""Options and arguments shared by several verbs."""

from pathlib import Path
from typing import Annotated

import typer

Model = Annotated[str, typer.Argument(help="Address of the model, such as video_swin/t.")]
IndexFile = Annotated[Path, typer.Argument(help="Index file.")]
Out = Annotated[Path, typer.Option(help="Results folder.")]
Device = Annotated[str | None, typer.Option(help="cuda or cpu; the GPU where there is one.")]
Workers = Annotated[int, typer.Option(min=1, help="Reading processes a rank.")]
