"""From the address of a model to its `Variant`, wherever the model is: in the zoo, in a user's code, in a library."""

from __future__ import annotations

import functools
import importlib

from .. import address, discover, user_code
from ..address import LIBRARIES, Address
from ..errors import UserError, unknown
from . import _user_code
from ._variant import Variant

LISTED = ("timm", "torchvision")


def families() -> list[str]:
    """Return the architecture families: the public files of this package (`maskfeat` has no variants of its own)."""
    return [name for name in discover.names("models") if name not in LIBRARIES]


def names() -> list[str]:
    """Return the address of every variant of the zoo, such as `tsm/r50_8f`."""
    return [f"{family}/{variant}" for family in families() for variant in _variants(family)]


def library_names(library: str) -> list[str]:
    """Return the addresses of a library's models. Raises UserError if it is missing, or has no list of them."""
    if library not in LISTED:
        raise unknown("library with a list", library, LISTED)
    found = importlib.import_module(f".{library}", __package__).names()
    return [str(Address(library, ":", name)) for name in found]


def find(name: str) -> Variant:
    """Return the variant at an address. Raises UserError, with the nearest names, if there is none."""
    return _find(address.absolute(name))


@functools.cache
def _find(name: str) -> Variant:
    found = address.parse(name)
    if found.in_library:
        library = importlib.import_module(f".{found.place}", __package__)
        return library.find(found.entry)
    if not found.is_file and found.place in families() and found.sign == "/":
        variants = _variants(found.place)
        if found.entry in variants:
            return variants[found.entry]
    elif found.entry and _is_code(found):
        return _user_code.find(found)
    elif found.is_file:
        raise UserError(f"{name} is a file: name one of its variants, {name}/VARIANT, or functions, {name}:FUNCTION")
    raise unknown("model", name, names())


def _is_code(found: Address) -> bool:
    """Return whether a place is meant as a user's code; a bare `name/variant` is, if Python finds such a module."""
    if found.is_file or found.sign == ":" or "." in found.place:
        return True
    return user_code.find_spec(found.place) is not None


def _variants(family: str) -> dict[str, Variant]:
    return discover.module("models", family, "model family").VARIANTS
