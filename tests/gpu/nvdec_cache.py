"""Run the reproduction of docs/dali-nvdec-cache.md as the page gives it; needs a GPU with NVDEC."""

from __future__ import annotations

from pathlib import Path

from reelbench.tests.documented import BLOCK

PAGE = Path(__file__).parents[2] / "docs" / "dali-nvdec-cache.md"


def reproduction() -> str:
    """Return the page's script."""
    [script] = [code for kind, code in BLOCK.findall(PAGE.read_text(encoding="utf-8")) if kind == "python"]
    return script


if __name__ == "__main__":
    exec(compile(reproduction(), PAGE, "exec"), {"__name__": "__main__"})
