"""Ten seeds of `quick` on two kinds of CPU arithmetic: 140 trainings, each of which must beat twice chance.

    python tests/quick_seeds.py                              all, into reports/reference/cpu/quick_seeds
    python tests/quick_seeds.py --only '*/micro' --seeds 2   the first two seeds
    python tests/quick_seeds.py --table                      the table of what there is, without a training

A second call goes on where the first stopped, or in a fresh clone with the rows that are kept in it. Ends with 1 if a
training is missing or did not learn: the lower bound of its top-1 (Wilson, 95 %) must be above twice chance.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from reelbench.harness.suites import ledger, load
from reelbench.result import Result

ROOT = Path(__file__).resolve().parent.parent
KEPT = ROOT / "reports" / "reference" / "cpu" / "quick_seeds"
WORK = ROOT / "runs" / "quick_seeds"
ARITHMETICS = {"default": {}, "avx2": {"ONEDNN_MAX_CPU_ISA": "AVX2", "OMP_NUM_THREADS": "1"}}


def run(arithmetic: str, only: str, seeds: int) -> None:
    """Run the suite on one kind of arithmetic, the first seeds only, and keep its results."""
    suite = WORK / f"seeds_{seeds}.py"
    suite.parent.mkdir(parents=True, exist_ok=True)
    suite.write_text(
        "from dataclasses import replace\nfrom reelbench.suites.quick_seeds import SUITE as ALL\n"
        f"SUITE = replace(ALL, cases=tuple(case for case in ALL.cases if case.seed < {seeds}))\n"
    )
    out, kept = WORK / arithmetic / ledger.FILE, KEPT / arithmetic / ledger.FILE
    if kept.exists() and not out.exists():
        out.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(kept, out)
    command = [sys.executable, "-m", "reelbench.harness.cli", "run", str(suite), "--out", str(out.parent)]
    subprocess.run([*command, "--only", only], env={**os.environ, **ARITHMETICS[arithmetic]}, check=False)
    if out.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(out, kept)


def table(found: dict[str, Sequence[Result]], seeds: int) -> tuple[str, list[str]]:
    """Return top-1 in percent by family, arithmetic and seed as Markdown, and what is missing or did not learn."""
    models = list(dict.fromkeys(case.model for case in load.load("quick").cases))
    lines = [f"| model | arithmetic | {' | '.join(f'seed {seed}' for seed in range(seeds))} | mean |"]
    lines.append("|---" * (seeds + 3) + "|")
    bad = []
    for model in models:
        for arithmetic, results in found.items():
            by_seed = {r.case.seed: r for r in results if r.case.model == model and "top1" in r.metrics}
            cells = [_cell(by_seed.get(seed)) for seed in range(seeds)]
            bad += [
                f"{model} {arithmetic} seed {i}: {c or 'missing'}" for i, c in enumerate(cells) if "*" in (c or "*")
            ]
            lines.append(f"| {model} | {arithmetic} | {' | '.join(cells)} | {_mean(list(by_seed.values()))} |")
    return "\n".join(lines) + "\n", bad


def _cell(result: Result | None) -> str:
    if result is None:
        return ""
    return f"{result.metrics['top1'].value:.1f}{'' if result.details.get('learned') else '*'}"


def _mean(results: list[Result]) -> str:
    return f"{statistics.mean(result.metrics['top1'].value for result in results):.1f}" if results else ""


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", default="*", help="cases to run, as in `reelbench run`")
    parser.add_argument("--seeds", type=int, default=10, help="how many, from 0")
    parser.add_argument("--arithmetic", choices=[*ARITHMETICS], action="append", help="default: both")
    parser.add_argument("--table", action="store_true", help="train nothing")
    given = parser.parse_args()
    for arithmetic in () if given.table else given.arithmetic or ARITHMETICS:
        run(arithmetic, given.only, given.seeds)
    found = {name: ledger.read(KEPT / name) for name in ARITHMETICS if (KEPT / name / ledger.FILE).exists()}
    text, bad = table(found, given.seeds)
    KEPT.mkdir(parents=True, exist_ok=True)
    (KEPT / "README.md").write_text(
        "Top-1 (%) of `quick`, by seed, on two kinds of CPU arithmetic: oneDNN's default, and AVX2 in one thread. "
        "\\* did not learn: the lower bound of top-1 (Wilson, 95 %) is not above twice chance. "
        "Made by `python tests/quick_seeds.py`.\n\n" + text
    )
    print(text, *bad, sep="\n")
    return 1 if bad or not found else 0


if __name__ == "__main__":
    sys.exit(main())
