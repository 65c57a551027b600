"""The verbs `models` and `doctor`."""

from __future__ import annotations

from typing import Annotated

import typer


def list_models(
    format: Annotated[str, typer.Option(help="table or json.")] = "table",
    library: Annotated[
        str | None, typer.Option(help="The addresses that another library adds: timm or torchvision.")
    ] = None,
) -> None:
    """List every architecture with its input and published figures.

    Example: reelbench models --format json
    """
    if library is not None:
        from ... import models

        print(*models.library_names(library), sep="\n")
        return
    from .. import listing

    print(listing.render(format))


def doctor() -> None:
    """Check this machine: what is missing, and what to do about it.

    Example: reelbench doctor
    """
    from .. import doctor as machine
    from ..measuring import environment

    for name, value in environment.collect().items():
        print(f"{name:16} {value}")
    broken = False
    for check in machine.checks():
        mark = "ok" if check.ok else "MISSING" if check.needed else "none"
        print(f"{check.name:16} {mark:8} {check.result}" + ("" if check.ok else f"  -> {check.remedy}"))
        broken |= check.needed and not check.ok
    raise typer.Exit(int(broken))
