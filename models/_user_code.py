"""Models of a user's own code: the variants and the functions of a Python file, or of a module that Python finds."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import ModuleType
from typing import Any, get_type_hints

from torch import nn

from .. import user_code
from ..address import Address
from ..errors import UserError, unknown
from ..spec import Clip
from . import _outline
from ._variant import Variant


def find(address: Address) -> Variant:
    """Return the variant that an address of a file or a module names, or one made of the function that it names.

    The code is executed, once a process. Raises UserError if it fails, or does not hold what is named.
    """
    try:
        module = user_code.load(address.place)
    except UserError as error:
        raise UserError(f"model '{address}': {error}") from None
    return _of_function(module, address) if address.sign == ":" else _of_variants(module, address)


def _of_variants(module: ModuleType, address: Address) -> Variant:
    variants = getattr(module, "VARIANTS", None)
    if not isinstance(variants, Mapping) or not all(isinstance(one, Variant) for one in variants.values()):
        raise UserError(
            f"{address.place} lacks VARIANTS: end it with VARIANTS = {{'{address.entry}': reelbench.models.Variant("
            f"build=…, clip=…)}}, or name a function that builds a network, {address.place}:FUNCTION"
        )
    if address.entry not in variants:
        raise unknown(f"variant of {address.place}", address.entry, variants)
    variant = variants[address.entry]
    build = checked(str(address), variant.build)
    outline = _outline.on_meta(lambda: build(num_classes=2, **variant.kwargs))
    known = any(key.startswith(variant.head) for key, _ in outline.named_parameters())
    head = variant.head if known else _outline.heads(functools.partial(build, **variant.kwargs))
    return replace(variant, build=build, head=head)


def _of_function(module: ModuleType, address: Address) -> Variant:
    functions = [name for name, value in vars(module).items() if callable(value) and not name.startswith("_")]
    function = getattr(module, address.entry, None)
    if function is None:
        raise unknown(f"function of {address.place}", address.entry, functions)
    if isinstance(function, nn.Module) or not callable(function):
        raise UserError(f"{address} is a {type(function).__name__}: name a function that builds a network")
    parameters = inspect.signature(function).parameters
    if "num_classes" not in parameters and all(p.kind is not p.VAR_KEYWORD for p in parameters.values()):
        raise UserError(f"{address} does not take num_classes: define it as def {address.entry}(num_classes): …")
    clip = getattr(module, "CLIP", None)
    if not isinstance(clip, Clip | None):
        raise UserError(f"{address.place}: CLIP is a {type(clip).__name__}: write CLIP = reelbench.spec.Clip(frames=…)")
    build = checked(str(address), function)
    default = parameters["num_classes"].default if "num_classes" in parameters else None
    classes = default if isinstance(default, int) else 400
    return Variant(build=build, clip=clip, num_classes=classes, head=_outline.heads(build))


def checked(address: str, function: Callable[..., Any]) -> Callable[..., nn.Module]:
    """Return a constructor of the same signature that raises UserError if it fails, or returns no module."""

    def build(**options: Any) -> nn.Module:
        try:
            model = function(**options)
        except UserError:
            raise
        except Exception as error:  # the user's code may raise anything; it is said in one line
            raise UserError(f"{address} fails: {user_code.reason(error)}") from error
        if not isinstance(model, nn.Module):
            raise UserError(f"{address} returns a {type(model).__name__}, not a torch.nn.Module")
        return model

    signature = inspect.signature(function)
    build.__signature__ = signature  # type: ignore[attr-defined]
    build.__annotations__ = _hints(function, signature)
    return build


def _hints(function: Callable[..., Any], signature: inspect.Signature) -> dict[str, Any]:
    """Return the types of the parameters: as annotated, else that of the default."""
    hints = {name: type(p.default) for name, p in signature.parameters.items() if p.default not in (p.empty, None)}
    try:
        return {**hints, **get_type_hints(function.__init__ if isinstance(function, type) else function)}
    except (NameError, TypeError, AttributeError):  # annotations for readers alone
        return hints
