"""What a new project is made of is what stands in this checkout, in the wheel too."""

from __future__ import annotations

import json
import os
import subprocess
import tomllib
from pathlib import Path

import pytest

from graftline.core.params import read_params
from graftline.operations.project_files import (
    COPIED,
    WRITTEN_FILE,
    Written,
    copied_files,
    digest,
    made_files,
    project_name,
)

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = sorted(path.parent for path in (ROOT / "examples").glob("*/params.yaml"))
LINKED = (
    *(".dvc/config", ".dvcignore", "dvc.yaml", "flows", "graftline.lock"),
    *("params.schema.json", "prefect.yaml", "tasks"),
)


def test_the_wheel_takes_along_what_a_project_is_made_of() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    taken = project["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    assert taken == {name: f"graftline/project_files/{name}" for name in COPIED}


def test_what_is_copied_is_what_stands_here() -> None:
    for name, text in copied_files().items():
        if name != "params.yaml":
            assert text == (ROOT / name).read_text(encoding="utf-8"), name


def test_what_is_made_is_what_stands_here() -> None:
    made = made_files("graftline")
    for name in ("graftline.lock", "params.schema.json"):
        assert made[name] == (ROOT / name).read_text(encoding="utf-8"), name


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: str(path.name))
def test_an_example_has_parameters_of_its_own_and_links_for_the_rest(example: Path) -> None:
    for name in LINKED:
        link = example / name
        assert link.is_symlink(), name
        assert link.resolve() == (ROOT / name).resolve()
    assert read_params(example / "params.yaml").register_.model_name != "graftline"
    done = subprocess.run(
        ["git", "ls-files", "-z", "."], cwd=example, check=True, capture_output=True, text=True
    )
    assert set(done.stdout.split("\0")) == {*LINKED, "params.yaml", ""}


@pytest.mark.parametrize(
    ("folder", "name"),
    [("blüten eins", "bluten-eins"), ("__", "project"), ("A.b", "a-b"), ("猫", "project")],
)
def test_a_project_is_called_like_its_folder(folder: str, name: str) -> None:
    assert project_name(Path("/x", folder)) == name


def test_what_was_written_is_known(tmp_path: Path) -> None:
    from graftline.operations.new_project import make_project

    root = tmp_path / "ä b"
    made = make_project(root, None)
    assert made.repository is None
    written = Written.read(root / WRITTEN_FILE)
    for name, known in written.files.items():
        assert digest((root / name).read_text(encoding="utf-8")) == known
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=root, check=True, capture_output=True, text=True
    ).stdout.split("\0")
    assert {*written.files, WRITTEN_FILE, ""} == set(listed)
    assert json.loads((root / WRITTEN_FILE).read_text())["version"] == written.version
    assert os.listdir(root / "flows") != []
