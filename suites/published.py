"""The whole zoo checked against its papers: parameters and GFLOPs at the published input, beside the published rows."""

from ..spec import Case, Suite
from ._zoo import ZOO

SUITE = Suite(
    name="published",
    description="the whole zoo: parameters and GFLOPs per view and per video, beside the published rows",
    cases=tuple(Case(model=model, metrics=("parameters", "flops"), time_limit=600) for model in ZOO),
)
