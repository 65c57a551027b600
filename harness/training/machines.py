"""The machines of a training run: ranks per machine, hostfile, rendezvous."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from ...errors import UserError
from ...spec import option


@dataclass(frozen=True)
class Machines:
    """Where the ranks run: `ranks` on this machine, or, if there is a `hostfile`, in the slots named there instead.

    With `node_rank` no ssh is used: every machine is started by hand and connects to `master`. Raises UserError if the
    hostfile is missing, or `node_rank` lacks hostfile or master.
    """

    ranks: int = option(1, "Ranks on this machine (on a CPU: processes).", flag="--gpus")
    hostfile: Path | None = option(None, "DeepSpeed hostfile, for several machines.")
    node_rank: int | None = option(None, "This machine's place in the hostfile: start each machine yourself, no ssh.")
    master: str | None = option(None, "ADDRESS:PORT of the first machine, with --node-rank.")

    def __post_init__(self) -> None:
        if self.ranks < 1:
            raise UserError(f"--gpus {self.ranks}: at least 1")
        if self.hostfile is not None and not self.hostfile.is_file():
            raise UserError(f"--hostfile {self.hostfile}: no such file: write a line `HOST slots=GPUS` a machine")
        if self.node_rank is None:
            return
        if self.hostfile is None or not re.fullmatch(r".+:\d+", self.master or ""):
            raise UserError("--node-rank needs --hostfile, and --master ADDRESS:PORT of the first machine")

    @property
    def total(self) -> int:
        """Number of ranks on all machines: with a hostfile the sum of its slots, at least 1."""
        if self.hostfile is None:
            return self.ranks
        slots = re.findall(r"^[^#\n]*\bslots\s*=\s*(\d+)", self.hostfile.read_text(), re.MULTILINE)
        return max(1, sum(map(int, slots)))
