"""Build a model for its shapes alone: on the meta device, which takes neither memory nor time, where it can be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

T = TypeVar("T")
RANDOM = {nn.init.normal_, nn.init.uniform_, nn.init.kaiming_uniform_, Tensor.normal_, Tensor.uniform_}


class _Unfilled(TorchFunctionMode):
    """Leaves out what fills tensors at random: on the meta device it changes nothing, but imports torch's compiler."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = kwargs or {}
        if func in RANDOM:
            tensor = args[0] if args else given["tensor"]
            if tensor.is_meta:
                return tensor
        return func(*args, **given)


def on_meta(compute: Callable[[], T]) -> T:
    """Return what `compute` does on the meta device; of code that needs values there, on the CPU.

    Constructors of others often do: drop-path rates by `torch.linspace(…)[i].item()`.
    """
    try:
        with torch.device("meta"), _Unfilled():
            return compute()
    except Exception as error:  # a user's code may raise anything
        if "meta" not in str(error).lower():
            raise
    with torch.device("cpu"):
        return compute()


def heads(build: Callable[..., nn.Module]) -> tuple[str, ...]:
    """Return the name prefixes of the parameters whose shapes follow the number of classes: the classifier's."""
    two, three = (
        {key: value.shape for key, value in on_meta(lambda n=n: build(num_classes=n)).named_parameters()}
        for n in (2, 3)
    )
    modules = {key: key.rpartition(".")[0] for key in two if two[key] != three.get(key)}
    return tuple(dict.fromkeys(f"{module}." if module else key for key, module in modules.items()))
