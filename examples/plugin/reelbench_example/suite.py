"""The example's model beside one of ReelBench's, under the example's metric."""

from reelbench.spec import Case, Suite

METRICS = ("parameters", "jitter")

SUITE = Suite(
    name="example",
    description="the mean color against TSM",
    cases=tuple(Case(model=model, metrics=METRICS) for model in ("mean_color/linear", "tsm/micro")),
)
