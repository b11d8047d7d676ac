"""Names on a server that several projects share."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from graftline.core.workspace import Workspace
from graftline.operations.project_name import project_name, with_project


def test_the_name_is_the_folders_or_that_of_pyproject(tmp_path: Path) -> None:
    root = tmp_path / "Müllers Blumen"
    root.mkdir()
    assert re.fullmatch("m-llers-blumen-[0-9a-f]{6}", project_name(Workspace(root)))
    (root / "pyproject.toml").write_text('[project]\nname = "Flowers_12"\n')
    assert re.fullmatch("flowers-12-[0-9a-f]{6}", project_name(Workspace(root)))
    (root / "pyproject.toml").write_text("[project")
    assert project_name(Workspace(root)).startswith("m-llers-blumen-")


def test_two_of_one_name_are_told_apart_and_one_that_moves_keeps_its_name(tmp_path: Path) -> None:
    first, second = (tmp_path / place / "digits" for place in ("a", "b"))
    for root in (first, second):
        root.mkdir(parents=True)
    name = project_name(Workspace(first))
    assert name == project_name(Workspace(first)) != project_name(Workspace(second))

    copy = tmp_path / "c" / "digits"
    shutil.copytree(first, copy)
    assert project_name(Workspace(copy)) not in (name, project_name(Workspace(second)))
    first.rename(tmp_path / "digits")
    assert project_name(Workspace(tmp_path / "digits")) == name


def test_the_projects_name_is_not_said_twice() -> None:
    assert with_project("nightly", "digits-3f9a2c") == "nightly-digits-3f9a2c"
    assert with_project("digits", "digits-3f9a2c") == "digits-3f9a2c"
