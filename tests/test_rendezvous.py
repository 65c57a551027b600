"""The environment of a rank: whole and consistent, or one line before anybody waits for a peer."""

from __future__ import annotations

import pytest
from reelbench.errors import UserError
from reelbench.harness.training import rendezvous

WHOLE = {"RANK": "1", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "MASTER_ADDR": "node0", "MASTER_PORT": "29500"}


@pytest.mark.parametrize("gpus", [1, 2, 4])
def test_a_launcher_s_environment_is_taken(gpus):
    rendezvous.check({}, gpus)
    rendezvous.check(WHOLE, gpus)
    rendezvous.check({**WHOLE, "LOCAL_WORLD_SIZE": str(gpus)}, gpus)


@pytest.mark.parametrize("name", ["WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"])
def test_what_is_missing_is_named(name):
    rest = {key: value for key, value in WHOLE.items() if key != name}
    with pytest.raises(UserError, match=f"RANK=1 is set, as by a launcher, but not {name}: .*unset RANK"):
        rendezvous.check(rest)


@pytest.mark.parametrize(
    ("given", "gpus", "said"),
    [
        ({"RANK": "one"}, 1, "RANK=one in the environment is no number"),
        ({"MASTER_PORT": "tcp://1"}, 1, "MASTER_PORT=tcp://1 in the environment is no number"),
        ({"RANK": "4"}, 1, "RANK=4 and LOCAL_RANK=1 do not fit WORLD_SIZE=4"),
        ({"WORLD_SIZE": "1", "RANK": "0"}, 1, "LOCAL_RANK=1 do not fit WORLD_SIZE=1"),
        ({}, 3, "--gpus 3, but a launcher has started 4 ranks"),
        ({"LOCAL_WORLD_SIZE": "2"}, 4, "--gpus 4, but a launcher has started 2 ranks"),
        ({"LOCAL_SIZE": "2"}, 4, "--gpus 4, but a launcher has started 2 ranks"),
    ],
)
def test_contradictions_are_named(given, gpus, said):
    with pytest.raises(UserError, match=said):
        rendezvous.check({**WHOLE, **given}, gpus)


@pytest.mark.parametrize("verb", [("train", "tsm/micro"), ("eval", "tsm/micro", "--checkpoint", "x.pth")])
def test_both_verbs_look_at_it_first(verb, reelbench, monkeypatch, tmp_path):
    monkeypatch.setenv("RANK", "0")
    for name in ("WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    code, _, err = reelbench(*verb, "--data", tmp_path / "x.parquet", "--device", "cpu")
    assert code == 2
    assert "RANK=0 is set, as by a launcher, but not WORLD_SIZE" in err
