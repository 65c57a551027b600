"""An ablation: a base case and named changes of it, each of which a report compares with the base.

    Ablation(base, {"frame interval 16": {"stride": 16}, "no mixup": {"mixup": 0.0}, "batch 32": {"recipe.batch": 32}})

Standard library only.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from .errors import UserError, unknown
from .spec import Case, Clip, Recipe, Views

BASE = "base"
_PARTS = {"case": Case, "clip": Clip, "recipe": Recipe, "views": Views}
_FIELDS = {part: [field.name for field in dataclasses.fields(kind)] for part, kind in _PARTS.items()}


class Ablation(Mapping[str, Case]):
    """The base case, called `base`, and that of each step, by the step's name; for `Suite(ablations=(…,))`.

    A step gives new values to fields of the case, its clip, its recipe or its views. A field that several of them have
    is written with the part's name, such as `recipe.batch` or `case.batch`; `options.NAME` is an argument of the
    model's constructor. Raises UserError if there is no such field, the base lacks the part, a value is invalid, or a
    step is the base or another step.
    """

    def __init__(self, base: Case, changes: Mapping[str, Mapping[str, Any]]) -> None:
        if BASE in changes:
            raise UserError(f"ablation: a step cannot be called '{BASE}': rename it")
        self._cases = {BASE: base, **{step: _changed(base, step, fields) for step, fields in changes.items()}}
        seen: dict[str, str] = {}
        for step, case in self._cases.items():
            if (other := seen.setdefault(case.case_id, step)) != step:
                raise UserError(f"ablation: step '{step}' is the same case as '{other}': change a field in it")

    def __getitem__(self, step: str) -> Case:
        return self._cases[step]

    def __iter__(self) -> Iterator[str]:
        return iter(self._cases)

    def __len__(self) -> int:
        return len(self._cases)


def _changed(base: Case, step: str, fields: Mapping[str, Any]) -> Case:
    changes: dict[str, dict[str, Any]] = {}
    for name, value in fields.items():
        part, field = _place(step, name)
        changes.setdefault(part, {})[field] = value
    own = changes.pop("case", {})
    if "options" in changes:
        own["options"] = {**base.options, **changes.pop("options")}
    try:
        for part, values in changes.items():
            if getattr(base, part) is None:
                raise UserError(f"the base has no {part} to change: give it {part}={part.title()}(…)")
            own[part] = dataclasses.replace(getattr(base, part), **values)
        return dataclasses.replace(base, **own)
    except UserError as error:
        raise UserError(f"ablation step '{step}': {error}") from None


def _place(step: str, name: str) -> tuple[str, str]:
    """Return the part that a field belongs to, and its name there."""
    part, dot, field = name.partition(".")
    if dot and (part == "options" or field in _FIELDS.get(part, ())):
        return part, field
    parts = ["case"] if name in _PARTS else [part for part, names in _FIELDS.items() if name in names]
    if len(parts) == 1:
        return parts[0], name
    if not parts:
        every = [n for names in _FIELDS.values() for n in names]
        every += [f"{part}.{n}" for part, names in _FIELDS.items() for n in names]
        raise unknown(f"field in ablation step '{step}':", name, every)
    choices = " or ".join(f"{part}.{name}" for part in parts)
    raise UserError(f"ablation step '{step}': {name} may be {choices}: write one of them")
