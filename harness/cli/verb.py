"""The typer command class of all verbs: `--help` in sections, usage errors in one line."""

from __future__ import annotations

import difflib
from typing import Any, cast

import typer
from typer.core import TyperCommand

from ...errors import UserError

UsageError = cast(
    type[Exception], typer.BadParameter.__mro__[1]
)  # click's UsageError: some releases of typer depend on click, others vendor it


class Verb(TyperCommand):
    """A command with its options grouped by `rich_help_panel`; usage errors become UserErrors."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the options. Raises UserError if one is unknown, malformed or missing."""
        try:
            return super().parse_args(ctx, args)
        except UsageError as error:
            raise UserError(f"{self._message(error, ctx)} (see `{ctx.command_path} --help`)") from None

    def _message(self, error: Any, ctx: Any) -> str:
        strange = getattr(error, "option_name", None)
        known = [name for param in self.get_params(ctx) for name in (*param.opts, *param.secondary_opts)]
        if strange is None or strange in known:  # a known option with a wrong value
            return " ".join(error.format_message().split()).rstrip(".")
        near = difflib.get_close_matches(strange, known, n=3, cutoff=0.5)
        hint = f": did you mean {' or '.join(near)}?" if near else ""
        return f"unknown option {strange}{hint}"

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write a help section per panel, in the order of the options."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            usual = "Arguments" if param.param_type_name == "argument" else "Options"
            if record := param.get_help_record(ctx):
                sections.setdefault(getattr(param, "rich_help_panel", None) or usual, []).append(record)
        for title, records in sections.items():
            with formatter.section(title):
                formatter.write_dl(records)
