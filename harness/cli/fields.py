"""Command-line options from dataclass fields: a field with a help text becomes a flag, parsed by its annotation.

`--betas 0.9,0.999` for a tuple, `--flip-swaps "2=3 4=5"` for pairs, a JSON file for a Clip, `--x/--no-x` for a bool,
and `none` for an optional or empty value.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import MISSING, Field, fields, is_dataclass
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import typer

from ...errors import UserError, unknown
from ...spec import Clip, read_json

Verb = TypeVar("Verb", bound=Callable[..., None])
Given = dict[str, Any]
NAMES = {bool: "true|false", int: "INT", float: "FLOAT", str: "TEXT", Path: "PATH"}


def offers(*kinds: type) -> Callable[[Verb], Verb]:
    """Decorate a verb so that it takes the dataclasses' fields with a help text as options.

    They arrive unparsed in its `**given`, None if not set, for `read`.
    """

    def offer(verb: Verb) -> Verb:
        own = inspect.signature(verb, eval_str=True)
        written = [p for p in own.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
        made = [_parameter(kind, field, hint) for kind in kinds for field, hint in _options(kind)]
        verb.__signature__ = own.replace(parameters=written + made)  # type: ignore[attr-defined]
        return verb

    return offer


def read(kind: type, given: Given) -> Given:
    """Return {field: parsed value} of a dataclass, only of those options that the command line set.

    Raises UserError if one is malformed.
    """
    found = {}
    for field, hint in _options(kind):
        value = given[_parameter_name(kind, field)]
        if value is not None:
            found[field.name] = value if isinstance(value, bool) else parse(hint, value, flag(field))
    return found


def flag(field: Field[Any]) -> str:
    """Return the flag of a field, such as `--warmup-epochs`."""
    return field.metadata.get("flag") or "--" + field.name.replace("_", "-")


def parse(hint: Any, text: str, flag: str) -> Any:
    """Parse a flag's text as a value of the annotated type. Raises UserError, naming it, if malformed."""
    kind = get_args(hint)[0] if get_origin(hint) in (Union, UnionType) else hint
    choices = [str(choice) for choice in get_args(kind)] if get_origin(kind) is Literal else [text]
    if text not in (*choices, *["none"] * (kind is not hint)):
        raise unknown(flag, text, choices)
    try:
        return _value(hint, text)
    except ValueError:
        raise UserError(f"{flag} {text}: write {written(hint)}") from None


def _value(hint: Any, text: str) -> Any:
    kinds = get_args(hint)
    if is_dataclass(hint):
        return read_json(hint, Path(text))  # type: ignore[type-var]
    if get_origin(hint) in (Union, UnionType):
        return None if text == "none" else _value(kinds[0], text)
    if get_origin(hint) is Literal:
        return next(kind for kind in kinds if str(kind) == text)
    if get_origin(hint) is tuple:
        return _values(kinds, text)
    if hint is str:
        return "" if text == "none" else text
    if hint is bool:
        return ("false", "true").index(text) == 1
    return hint(text)


def _values(kinds: tuple[Any, ...], text: str) -> tuple[Any, ...]:
    """Parse a tuple: `A,B`, or `A=B C=D` for a tuple of pairs."""
    if kinds[-1] is not Ellipsis:
        return tuple(_value(kind, part) for kind, part in zip(kinds, text.split(","), strict=True))
    if text == "none":
        return ()
    if get_origin(kinds[0]) is not tuple:
        return tuple(_value(kinds[0], part) for part in text.split(","))
    left, right = get_args(kinds[0])
    pairs = [
        pair.rsplit("=", 1) for pair in text.split()
    ]  # a pattern may contain commas and equals signs, but no spaces
    return tuple((_value(left, a), _value(right, b)) for a, b in pairs)


def written(hint: Any) -> str:
    """Return the syntax of an annotated type's values, for help and messages.

    >>> written(tuple[tuple[str, float], ...])
    '"TEXT=FLOAT ..."'
    """
    kinds = get_args(hint)
    if get_origin(hint) in (Union, UnionType):
        return written(kinds[0])
    if get_origin(hint) is Literal:
        return "|".join(map(str, kinds))
    if get_origin(hint) is tuple and kinds[-1] is Ellipsis:
        pair = get_origin(kinds[0]) is tuple
        return f'"{"=".join(map(written, get_args(kinds[0])))} ..."' if pair else f"{written(kinds[0])},..."
    if get_origin(hint) is tuple:
        return ",".join(map(written, kinds))
    return NAMES.get(hint, "FILE")


def _options(kind: type) -> Iterator[tuple[Field[Any], Any]]:
    """Yield the fields that are options, with their annotations."""
    hints = get_type_hints(kind)
    yield from ((field, hints[field.name]) for field in fields(kind) if "help" in field.metadata)


def _parameter_name(kind: type, field: Field[Any]) -> str:
    """Return a parameter name that is unique across dataclasses, which may share field names."""
    return f"{kind.__name__.lower()}_{field.name}"


def _parameter(kind: type, field: Field[Any], hint: Any) -> inspect.Parameter:
    name, switch = flag(field), hint is bool
    hidden = kind is Clip or field.default in (MISSING, None, "", (), False)  # a clip's defaults are the model's own
    shown = "" if hidden else f"  [default: {_show(field.default)}]"
    option = typer.Option(
        f"{name}/--no-{name[2:]}" if switch else name, help=field.metadata["help"] + shown, show_default=False,
        rich_help_panel=kind.__name__, metavar=None if switch else written(hint),
    )  # fmt: skip
    return inspect.Parameter(
        _parameter_name(kind, field), inspect.Parameter.KEYWORD_ONLY, default=None,
        annotation=Annotated[bool | None if switch else str | None, option],
    )  # fmt: skip


def _show(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
