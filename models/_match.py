"""Find which naming a checkpoint has: every naming is tried, the one that covers most of the model's tensors wins.

What wrappers add to the names (data parallelism, `torch.compile`, FSDP, Lightning) is removed on the way.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from torch import nn

from ..errors import UserError
from ._naming import OWN, Naming, State
from ._state_dict import Candidate

# What wrappers insert anywhere in a name: torch.compile, FSDP, activation checkpointing, Lightning's strategies.
INSERTED = re.compile(r"\b(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module|_forward_module)\.")
WRAPPERS = ("module.", "model.", "network.", "net.")  # the modules beside them in a file are not the network's
PARTS = ("backbone.", "encoder.")
MOST_VIEWS = 16  # real files have one to four


@dataclass(frozen=True)
class View:
    """A state dict with wrappers removed; the names `beside` are of modules that were not inside them."""

    state: State
    beside: frozenset[str] = frozenset()


@dataclass(frozen=True, kw_only=True)
class Match:
    """A checkpoint's tensors by the model's names, and what led there.

    `view` has the names of the file without wrappers, `container` is where they lay, `converted` are the tensors by the
    model's names before resizing or inflation.
    """

    state: State
    view: View
    container: str
    converted: State
    name: str = OWN
    naming: Naming = Naming()


Score = tuple[int, int, int, bool]
Shapes = Mapping[str, tuple[int, ...]]


def best(
    model: nn.Module,
    candidates: Iterable[Candidate],
    namings: Mapping[str, Naming],
    finish: Callable[[State], State] = dict,
) -> Match:
    """Return the match with the highest coverage of the model's tensors; this package's own naming is tried too.

    Of two that cover as much, the one with fewer names unknown to the model wins, then this package's own, then the
    first. Averaged weights are taken only if no others fit. `finish` turns a converted state dict into the model's, as
    inflation does.
    """
    own = shapes(model)
    highest: tuple[Score, Match] | None = None
    for candidate in candidates:
        if candidate.averaged and highest is not None and highest[0][0]:
            break
        for match in _tries(candidate, {OWN: Naming(), **namings}, finish):
            score = _score(match, own)
            if highest is None or score > highest[0]:
                highest = score, match
            if score[0] == len(own) and score[2] == 0:
                return match
    assert highest is not None  # there is a candidate, and our own naming never fails
    return highest[1]


def shapes(model: nn.Module) -> dict[str, tuple[int, ...]]:
    """Return the shape of every entry of the model's state dict."""
    return {key: tuple(value.shape) for key, value in model.state_dict().items()}


def _tries(candidate: Candidate, namings: Mapping[str, Naming], finish: Callable[[State], State]) -> Iterator[Match]:
    for view in _views(candidate.state):
        for name, naming in namings.items():
            converted = view.state
            try:
                converted = naming.convert(view.state)
                state = finish(converted)
            except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, UserError, ValueError):
                if name != OWN:
                    continue  # it is of another origin: a joined tensor is absent, a shape not the expected one
                state = view.state  # so that what does not fit can be named
            yield Match(
                state=state, view=view, container=candidate.container, converted=converted, name=name, naming=naming
            )


def _score(match: Match, own: Shapes) -> Score:
    named = match.state.keys() & own.keys()
    fitting = sum(tuple(match.state[key].shape) == own[key] for key in named)
    return fitting, len(named), len(named) - len(match.state), match.name == OWN


def _views(state: State) -> Iterator[View]:
    """Yield the state dict as it is, then with one leading wrapper less, and so on."""
    views = [View({INSERTED.sub("", key): value for key, value in state.items()})]
    for view in views:  # grows on the way
        yield view
        found = [prefix for prefix in (*WRAPPERS, *PARTS) if any(key.startswith(prefix) for key in view.state)]
        views += [_without(view, prefix) for prefix in found][: MOST_VIEWS - len(views)]


def _without(view: View, prefix: str) -> View:
    inside = {key.removeprefix(prefix): value for key, value in view.state.items() if key.startswith(prefix)}
    outside = {key: value for key, value in view.state.items() if not key.startswith(prefix)}
    beside = view.beside | (outside.keys() - inside.keys() if prefix in WRAPPERS else frozenset())
    return View({**outside, **inside}, frozenset(beside))
