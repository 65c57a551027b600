"""Run the reproduction of docs/dali-nvdec-cache.md as the page gives it; needs a GPU with NVDEC."""

from __future__ import annotations

import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "dali-nvdec-cache.md"


def reproduction() -> str:
    """Return the page's script."""
    [script] = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    return script


if __name__ == "__main__":
    exec(compile(reproduction(), PAGE, "exec"), {"__name__": "__main__"})
