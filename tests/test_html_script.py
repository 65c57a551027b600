"""The modules of the page's script: one after the other they are one module, and a linter has no complaint."""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from pathlib import Path

import pytest
from reelbench.reports import html

ROOT = Path(__file__).parent.parent
BIOME = ROOT / "node_modules" / ".bin" / "biome"


def test_a_module_imports_only_what_stands_before_it():
    assert {*html.SCRIPTS, *html.TRAINING} == {path.stem for path in html.FILES.glob("*.js")}
    for scripts in (html.SCRIPTS, html.TRAINING):
        for place, name in enumerate(scripts):
            text = (html.FILES / f"{name}.js").read_text()
            assert set(re.findall(r' from "\./(\w+)\.js";', text)) <= set(scripts[:place]), name


@pytest.mark.parametrize("scripts", [html.SCRIPTS, html.TRAINING], ids=["page", "training"])
def test_the_modules_become_one(scripts):
    one = "".join(map(html.script, scripts))
    assert not re.findall(r"^(?:import|export) .*", one, flags=re.MULTILINE)
    names = Counter(re.findall(r"^(?:const|let|function) (\w+)", one, flags=re.MULTILINE))
    assert "drawCurve" in names
    assert [name for name, times in names.items() if times > 1] == []


def test_the_script_is_linted():
    if not BIOME.exists():
        pytest.skip("no biome in node_modules: `make install-dev` puts it there, with npm and a network")
    checked = subprocess.run(
        [BIOME, "ci", "--error-on-warnings", "--colors=off"], cwd=ROOT, capture_output=True, text=True
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
