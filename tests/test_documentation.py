"""What the README and the documentation say: links lead somewhere, commands and options exist, tables are current."""

from __future__ import annotations

import fnmatch
import importlib.util
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import typer
from reelbench import address, discover, models, reports
from reelbench.harness import cli, listing
from reelbench.harness.suites import load
from reelbench.spec import Clip, from_fields
from reelbench.tests import documented, zoo_table

ROOT = documented.ROOT
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)|!\[[^\]]*\]\(([^)\s]+)\)")
COMMANDS = documented.commands()


@pytest.fixture(scope="module")
def program() -> Any:
    return typer.main.get_command(cli.app)


def verb(program: Any, words: list[str]) -> tuple[Any, list[str]]:
    """Return the verb that words begin with, and its arguments."""
    while words[0] == "--plugin":
        words = words[2:]
    found = program.commands[words[0]]
    return verb(found, words[1:]) if hasattr(found, "commands") else (found, words[1:])


def test_pages_are_all_in_the_navigation() -> None:
    listed = re.findall(r"[\w-]+\.md", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    assert sorted(listed) == sorted(path.name for path in (ROOT / "docs").glob("*.md"))


def anchors(path: Path) -> set[str]:
    """Return the anchors of a page's headings, as both GitHub and Python-Markdown make them of plain words."""
    text = documented.BLOCK.sub("", path.read_text(encoding="utf-8"))
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", title).strip().lower()) for title in titles}


@pytest.mark.parametrize("page", [*documented.PAGES, ROOT / "CONTRIBUTING.md"], ids=lambda path: path.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = documented.BLOCK.sub("", page.read_text(encoding="utf-8"))
    for target in (a or b for a, b in LINK.findall(text)):
        if target.startswith("https://"):
            continue
        name, _, anchor = target.partition("#")
        file = page.parent / name if name else page
        assert file.exists(), f"{page.name}: {target}"
        assert not anchor or anchor in anchors(file), f"{page.name}: {target}"
        inside = page.parent != ROOT / "docs" or file.parent == page.parent
        assert inside, f"{page.name}: {target} is no page of the site"


@pytest.mark.parametrize(
    "command", [command for command in COMMANDS if command.arguments is not None and "…" not in command.words], ids=str
)
def test_commands_are_those_of_the_command_line(program: Any, command: documented.Command) -> None:
    arguments = command.arguments
    assert arguments is not None
    found, rest = verb(program, arguments)
    given = found.make_context(found.name, rest).params  # raises UserError as the command itself would
    named = given.get("model")
    if named is not None and not address.parse(named).is_file and not address.parse(named).in_library:
        variant = models.find(named)
        recipe = given.get("recipe")
        assert recipe is None or recipe in variant.recipes or recipe.endswith(".json"), command
    if "suite" in given and given["suite"] in discover.names("suites"):
        names = {case.model for case in load.load(given["suite"]).cases}
        assert all(fnmatch.filter(names, pattern) for pattern in given["only"] or ()), command
    elif "suite" in given:
        assert given["suite"].endswith(".py") or given["suite"] == "example", command
    if found.name == "report":
        assert given["format"] in (*reports.formats(), "terminal", "slack"), command


def test_commands_in_prose_have_options_that_exist(program: Any) -> None:
    for page, code in documented.inline():
        words = [word for word in code.split() if word != "…"]
        if words[:1] != ["reelbench"] or len(words) < 2 or words[1].startswith("--"):
            continue
        found, rest = verb(program, words[1:])
        known = {name for parameter in found.params for name in (*parameter.opts, *parameter.secondary_opts)}
        strange = {word for word in rest if word.startswith("--")} - known - {"--help"}
        assert not strange, f"{page}: {code}"


def test_options_that_others_are_translated_to_exist(program: Any) -> None:
    verbs = (*program.commands.values(), *program.commands["data"].commands.values())
    known = {
        name for verb in verbs for parameter in verb.params for name in (*parameter.opts, *parameter.secondary_opts)
    }
    text = (ROOT / "docs" / "translate.md").read_text(encoding="utf-8")
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| `")]
    assert len(rows) > 20
    ours = {word for row in rows for code in documented.INLINE.findall(row[1]) for word in code.split()}
    options = {word for word in ours if word.startswith("--")}
    assert options - {"--diff-rank-seed", "--help"} <= known


@pytest.mark.parametrize("name", zoo_table.FILES)
def test_the_tables_of_the_zoo_are_current(name: str) -> None:
    (written,) = zoo_table.BETWEEN.findall((ROOT / name).read_text(encoding="utf-8"))
    rows = json.loads(listing.SHIPPED.read_text(encoding="utf-8"))["rows"]
    assert written == zoo_table.FILES[name](rows), "make catalog"


def test_the_clip_in_the_pages_is_the_recipes() -> None:
    blocks = (block for path in documented.PAGES for block in documented.BLOCK.findall(path.read_text()))
    (code,) = (code for kind, code in blocks if kind == "json")
    trained = models.find("dualformer/s").recipes["diving48"].clip
    assert trained is not None
    assert from_fields(Clip, json.loads(code)) == replace(trained, short_side=224)


@pytest.mark.slow  # builds the site
@pytest.mark.skipif(importlib.util.find_spec("mkdocs") is None, reason="the site's builder is not installed: make docs")
def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "reelbench").symlink_to(ROOT)
    settings = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").replace("build/docs", str(tmp_path / "code"))
    (tmp_path / "mkdocs.yml").write_text(f"{settings}docs_dir: {ROOT / 'docs'}\n")
    line = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", tmp_path / "site"]
    quiet = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    subprocess.run([*line, "--config-file", tmp_path / "mkdocs.yml"], check=True, env=quiet)
    assert (tmp_path / "site" / "api" / "index.html").exists()
