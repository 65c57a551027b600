"""The shell command that reproduces one case: it writes a suite file with that case and runs it."""

from __future__ import annotations

import dataclasses
from typing import Any

from ..spec import Case, Clip, Recipe, Views

TEMPLATE = """\
cat > {file} <<'EOF'
from reelbench.spec import Case, Clip, Recipe, Suite, Views

CASE = {case}
SUITE = Suite(name={name!r}, description={description!r}, cases=(CASE,))
EOF
reelbench run {file} --device {device} --out runs/{name}
"""


def command(case: Case, case_id: str) -> str:
    """Return shell lines that measure the case again, writing out only the fields that differ from their defaults.

    The fingerprint is left out: the run computes it from the data that it finds.
    """
    return TEMPLATE.format(
        file=f"case_{case_id}.py",
        case=source(Case.from_json({**case.to_json(), "fingerprint": ""})),
        name=f"case-{case_id}",
        description=f"{case.label}, again",
        device=case.device,
    )


def source(value: Any, indent: str = "") -> str:
    """Return the Python expression of a Case, Clip, Recipe or Views, without fields at their defaults."""
    if not isinstance(value, Case | Clip | Recipe | Views):
        return repr(value)
    fields = [(f.name, f.default, getattr(value, f.name)) for f in dataclasses.fields(value)]
    inner = indent + "    "
    lines = "".join(f"{inner}{name}={source(now, inner)},\n" for name, default, now in fields if now != default)
    return f"{type(value).__name__}(\n{lines}{indent})" if lines else f"{type(value).__name__}()"
