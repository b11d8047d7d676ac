"""What a project is made of, and where its files come from: the checkout, or the wheel's copy.

The checkout's own root is the first project, and what stands there is what others get.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from unicodedata import combining, normalize

import graftline
from graftline.core.code_lock import CODE_LOCK, lock_text
from graftline.core.code_state import step_digests
from graftline.core.errors import MissingOutputError
from graftline.core.params import json_schema
from graftline.core.records import Record
from graftline.core.repository import git
from graftline.core.stages import STAGES
from graftline.core.workspace import PARAMS_FILE

COPIED = (
    ".dvc/.gitignore",
    ".dvc/config",
    ".dvcignore",
    ".gitattributes",
    ".gitignore",
    "data/.gitignore",
    "data/no-files",
    "dvc.yaml",
    "flows",
    "models/.gitignore",
    "params.yaml",
    "prefect.yaml",
    "reports/.gitignore",
    "tasks",
    "tests/test_project.py",
)
"""Files and folders of the checkout that every project has; the wheel takes the same along."""
SCHEMA_FILE = "params.schema.json"
WRITTEN_FILE = ".graftline.json"
_IN_WHEEL = "project_files"
_IGNORED = frozenset({"__pycache__"})


class Written(Record):
    """``.graftline.json``: what was written into a project, so that an upgrade knows its own."""

    lies_at = WRITTEN_FILE

    version: str
    """Of Graftline."""
    name: str
    """The project's, as the files have it that were made for it."""
    files: dict[str, str]
    """SHA-256 by path; what the user has changed since has another."""


def origin() -> Path:
    """Where the files of a project are copied from."""
    package = Path(graftline.__file__).resolve().parent
    in_wheel = package / _IN_WHEEL
    return in_wheel if in_wheel.is_dir() else package.parent


def copied_files() -> dict[str, str]:
    """What the files hold that every project has alike, by their path.

    Raises:
        MissingOutputError: If they are neither beside the package nor in it.
    """
    root = origin()
    found = {name: _text(root, name) for name in _names(root)}
    if "flows/train.py" not in found:
        raise MissingOutputError(
            "the files of a project are not installed with Graftline",
            where=str(root),
            fix="install Graftline once more: pip install --force-reinstall --no-deps graftline",
        )
    return found


def made_files(name: str) -> dict[str, str]:
    """What the files hold that are made for one project, by their path.

    Args:
        name: The project's, as in :func:`project_name`.
    """
    return {
        CODE_LOCK: lock_text(step_digests(STAGES)),
        SCHEMA_FILE: json.dumps(json_schema(), indent=2) + "\n",
        "README.md": _README.replace("NAME", name),
        "pyproject.toml": _PYPROJECT.replace("NAME", name).replace(
            "VERSION", graftline.__version__
        ),
    }


def project_name(root: Path) -> str:
    """A name for a project that packages, models and deployments can bear, from its folder's."""
    # Without the marks over letters, ü is u.
    plain = "".join(one for one in normalize("NFKD", root.name) if not combining(one))
    letters = "".join(sign if sign.isascii() and sign.isalnum() else "-" for sign in plain)
    return "-".join(filter(None, letters.lower().split("-")))[:60] or "project"


def digest(text: str) -> str:
    """SHA-256 of a file's text, as :class:`Written` has it."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def digests(files: Mapping[str, str]) -> dict[str, str]:
    """By path, in the order of the paths."""
    return {name: digest(files[name]) for name in sorted(files)}


def _names(root: Path) -> Iterator[str]:
    for name in COPIED:
        path = root / name
        if path.is_dir():
            below = (one.relative_to(root) for one in sorted(path.rglob("*.py")))
            yield from (one.as_posix() for one in below if not _IGNORED & set(one.parts))
        elif path.is_file():
            yield name


def _text(root: Path, name: str) -> str:
    if name == PARAMS_FILE:
        # In a checkout somebody may be trying other values; these are theirs alone.
        staged = git(root, "show", f":./{name}")
        if staged:
            return staged
    return (root / name).read_text(encoding="utf-8")


_PYPROJECT = """\
[project]
name = "NAME"
version = "0.1.0"
requires-python = ">=3.11,<3.14"
dependencies = ["graftline==VERSION"]

[dependency-groups]
dev = ["pytest>=8.4"]

[tool.pytest.ini_options]
testpaths = ["tests"]
# flows and tasks are imported from here.
pythonpath = ["."]
addopts = ["--import-mode=importlib"]
"""
_README = """\
# NAME

An image classifier, trained by Graftline on the images that `params.yaml` names.

    graftline run              # what is stale of load, preprocess … promote
    graftline status           # what would run, and why; the last figures
    graftline predict FILE …   # name what is on images
    graftline serve            # the champion over HTTP, with a page to try it
    graftline ui               # the runs in Prefect and MLflow
    graftline up               # servers and a worker for the schedules of prefect.yaml
    graftline down             # stop them
    graftline upgrade          # after a newer Graftline was installed
    dvc repro                  # the same stages, without a flow
    pytest                     # this project's own tests, under a minute

| what | is for |
| --- | --- |
| `params.yaml` | every parameter, each that was proposed with its reason above it |
| `dvc.yaml` | the stages: what each reads and writes |
| `flows/`, `tasks/` | the order of the steps, and a short file for each: yours to change |
| `prefect.yaml` | what runs by itself, and when |
| `tests/` | this project's tests |
| `graftline.lock` | the code of each step as a digest; `graftline lock` writes it |
| `.graftline.json` | what `graftline init` wrote, so that `graftline upgrade` knows what is yours |

Commit `params.yaml` and `dvc.lock` after a run: a committed run can be had again by
`graftline reproduce VERSION`. A second machine needs `git clone`, then `dvc pull`, if a remote was
set (`dvc remote add --default NAME PLACE`, then `dvc push` where the run was made).
"""
