"""Every line of every suite names things that exist, and `quick` has a row for each family."""

from __future__ import annotations

import pytest
from reelbench import models
from reelbench.harness.suites import load


@pytest.mark.parametrize("name", sorted(load.listing()))
def test_a_suite_names_things_that_exist(name):
    found = load.load(name)
    assert found.name == name
    assert found.description
    for case in found.cases:
        models.find(case.model)
    assert len({case.case_id for case in found.cases}) == len(found.cases)


def test_quick_trains_the_micro_of_every_family():
    micros = {name for name in models.names() if name.endswith("/micro")}
    assert {case.model for case in load.load("quick").cases} == micros
    assert all("accuracy" in case.metrics for case in load.load("quick").cases)


def test_the_zoo_is_the_zoo():
    """Suites name models without importing torch; here the names are held to what there is."""
    from reelbench.suites._zoo import FLAGSHIPS, ZOO

    assert list(ZOO) == [name for name in models.names() if not name.endswith("/micro")]
    assert len(FLAGSHIPS) == len({name.partition("/")[0] for name in ZOO})
    assert {name.partition("/")[0] for name in FLAGSHIPS} == {name.partition("/")[0] for name in ZOO}
