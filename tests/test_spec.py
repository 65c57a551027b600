"""Values are checked where they are born, each mistake in one line that names the thing."""

from __future__ import annotations

import pytest
from reelbench.errors import UserError, unknown
from reelbench.spec import Case, Clip, Recipe, Suite, Views


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Clip(frames=0), "frames=0 must be a positive integer"),
        (lambda: Clip(frames=8, size=300, short_side=256), "short_side=256 is below size=300"),
        (lambda: Clip(frames=8, sampling="sparse"), "none of dense, dense_middle, dense_64, window, segments, uniform"),
        (lambda: Views(crops=2), "must be 1, 3 or 10"),
        (lambda: Views.parse("4x2"), "write clips x crops"),
        (lambda: Views.parse("0x1"), "at least 1"),
        (lambda: Recipe(lr=0), "lr=0 must be positive"),
        (lambda: Recipe(batch=10, accumulate=4), "no multiple of accumulate"),
        (lambda: Recipe(flip=2), "flip=2 must lie in 0..1"),
        (lambda: Case(model="tsm/micro", metrics=("latncy",)), "did you mean 'latency'"),
        (lambda: Case(model="tsm/micro", metrics=("accuracy",)), "accuracy needs weights"),
        (lambda: Suite(name="s", description="", cases=()), "no cases"),
        (lambda: Case.from_json({"model": "tsm/micro", "colour": 1}), "unknown field colour"),
    ],
)
def test_an_impossible_value_is_refused(make, said):
    with pytest.raises(UserError, match=said):
        make()


def test_views_read_back_as_written():
    assert str(Views.parse("10x3")) == "10x3"
    assert Views.parse("4x3").count == 12


def test_an_unknown_name_is_answered_with_near_ones():
    assert str(unknown("suite", "quik", ["quick", "latency"])).startswith("unknown suite 'quik': did you mean 'quick'?")
