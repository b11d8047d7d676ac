"""Names on a server that several projects share."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from graftline.core.workspace import Workspace
from graftline.operations.names_on_servers import name_on_servers, with_project


def test_the_name_is_the_folders_or_that_of_pyproject(tmp_path: Path) -> None:
    root = tmp_path / "Müllers Blumen"
    root.mkdir()
    assert re.fullmatch("mullers-blumen-[0-9a-f]{6}", name_on_servers(Workspace(root)))
    (root / "pyproject.toml").write_text('[project]\nname = "Flowers_12"\n')
    assert re.fullmatch("flowers-12-[0-9a-f]{6}", name_on_servers(Workspace(root)))
    (root / "pyproject.toml").write_text("[project")
    assert name_on_servers(Workspace(root)).startswith("mullers-blumen-")


def test_two_of_one_name_are_told_apart_and_one_that_moves_keeps_its_name(tmp_path: Path) -> None:
    first, second = (tmp_path / place / "digits" for place in ("a", "b"))
    for root in (first, second):
        root.mkdir(parents=True)
    name = name_on_servers(Workspace(first))
    assert name == name_on_servers(Workspace(first)) != name_on_servers(Workspace(second))

    copy = tmp_path / "c" / "digits"
    shutil.copytree(first, copy)
    assert name_on_servers(Workspace(copy)) not in (name, name_on_servers(Workspace(second)))
    first.rename(tmp_path / "digits")
    assert name_on_servers(Workspace(tmp_path / "digits")) == name


def test_the_projects_name_is_not_said_twice() -> None:
    assert with_project("nightly", "digits-3f9a2c") == "nightly-digits-3f9a2c"
    assert with_project("digits", "digits-3f9a2c") == "digits-3f9a2c"
