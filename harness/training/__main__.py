"""The module that launchers run in every rank: `deepspeed --num_gpus 2 --module reelbench.harness.training MODEL …`."""

from ..cli import run_command
from ..cli.train import train

if __name__ == "__main__":
    run_command(train)
