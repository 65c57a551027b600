"""What a launcher tells each rank through the environment, checked before a rank waits for peers that never come."""

from __future__ import annotations

from collections.abc import Mapping

from ...errors import UserError

NUMBERS = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_PORT")
VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
LOCAL_SIZES = ("LOCAL_WORLD_SIZE", "LOCAL_SIZE")  # torchrun's and DeepSpeed's name for the ranks of a machine


def check(environment: Mapping[str, str], gpus: int = 1) -> None:
    """Check the variables of a rank; without RANK in the `environment` this process is none, and nothing is checked.

    `gpus` are the ranks a machine that the command line asks for, 1 if it does not. Raises UserError if a variable is
    missing or no number, or they contradict each other or `gpus`.
    """
    if "RANK" not in environment:
        return
    if missing := [name for name in VARIABLES if not environment.get(name)]:
        raise UserError(
            f"RANK={environment['RANK']} is set, as by a launcher, but not {', '.join(missing)}: set them too, or "
            "`unset RANK` to start the ranks from here"
        )
    if odd := [name for name in NUMBERS if not environment[name].isdecimal()]:
        raise UserError(f"{odd[0]}={environment[odd[0]]} in the environment is no number: set it, or `unset RANK`")
    rank, size, local = (int(environment[name]) for name in NUMBERS[:3])
    if rank >= size or local >= size:
        raise UserError(
            f"RANK={rank} and LOCAL_RANK={local} do not fit WORLD_SIZE={size}: ranks are numbered from 0; correct "
            "them, or `unset RANK` to start the ranks from here"
        )
    here = next((int(environment[name]) for name in LOCAL_SIZES if environment.get(name, "").isdecimal()), 0)
    if gpus > 1 and (gpus != here if here else size % gpus):
        raise UserError(
            f"--gpus {gpus}, but a launcher has started {here or size} ranks: leave --gpus away, or `unset RANK` to "
            "start the ranks from here"
        )
