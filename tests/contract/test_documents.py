"""What the documents promise is there: commands, targets, links, and references up to date."""

from __future__ import annotations

import importlib.util
import re
import shlex
from pathlib import Path

import pytest

from graftline.cli.main import make_parser
from scripts import parameters

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
TARGETS = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def commands(document: Path) -> list[list[str]]:
    """The words of every command line in a document's code, blocks and inline."""
    text = document.read_text(encoding="utf-8")
    blocks = re.findall(r"^```(?:bash|console|sh)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    lines += re.findall(r"^ {4}(\S.*)$", text, re.MULTILINE)
    lines += re.findall(r"(?<!`)`([^`\n]+)`(?!`)", text)
    found = []
    for line in lines:
        try:
            words = shlex.split(line.removeprefix("$ "), comments=True)
        except ValueError:
            continue
        while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
            words = words[1:]
        if words:
            found.append(words)
    return found


def names(document: Path) -> str:
    return str(document.relative_to(ROOT))


@pytest.mark.parametrize("document", DOCUMENTS, ids=names)
def test_every_target_that_is_named_exists(document: Path) -> None:
    named = {words[1] for words in commands(document) if words[0] == "make" and len(words) > 1}
    assert named <= TARGETS


@pytest.mark.parametrize("document", DOCUMENTS, ids=names)
def test_every_module_that_is_named_exists(document: Path) -> None:
    for words in commands(document):
        if words[0].endswith("python") and "-m" in words:
            module = words[words.index("-m") + 1]
            assert importlib.util.find_spec(module) is not None, module


@pytest.mark.parametrize("document", DOCUMENTS, ids=names)
def test_every_subcommand_that_is_named_exists(document: Path) -> None:
    (subcommands,) = (
        action.choices
        for action in make_parser()._actions
        if action.choices is not None and isinstance(action.choices, dict)
    )
    for words in commands(document):
        if words[0] == "graftline" and len(words) > 1 and re.fullmatch("[a-z]+", words[1]):
            assert words[1] in subcommands, words


@pytest.mark.parametrize("document", DOCUMENTS, ids=names)
def test_every_link_leads_somewhere(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text):
        if "://" not in link:
            assert (document.parent / link).exists(), link


def test_the_readme_names_the_two_commands_first() -> None:
    first_screen = "\n".join((ROOT / "README.md").read_text(encoding="utf-8").splitlines()[:40])
    assert "make run" in first_screen
    assert "make test" in first_screen


def test_help_tells_of_every_target() -> None:
    makefile = (ROOT / "Makefile").read_text()
    described = set(re.findall(r"^([a-z-]+):.*## \S", makefile, re.MULTILINE))
    phony = re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    assert phony is not None
    assert described == TARGETS == set(phony.group(1).split())


@pytest.mark.parametrize("name", sorted(parameters.files()))
def test_what_is_generated_is_current(name: str) -> None:
    current = (ROOT / name).read_text(encoding="utf-8")
    assert current == parameters.files()[name], "make schema writes it anew"
