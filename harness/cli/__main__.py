"""`python -m reelbench.harness.cli`: the `reelbench` command where it is not on PATH."""

from . import main

if __name__ == "__main__":
    main()
