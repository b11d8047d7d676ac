"""``graftline.lock``: which edit makes which stages stale, and what refuses to run."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from graftline.core import code_lock, code_state
from graftline.core.code_lock import (
    CODE_LOCK,
    changed_code,
    lock_code,
    locked_digests,
    refuse_other_code,
)
from graftline.core.errors import CodeChangedError
from graftline.core.stages import STAGES
from graftline.core.workspace import Workspace

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package."""
    root = tmp_path_factory.mktemp("copied")
    shutil.copytree(ROOT / "graftline", root / "graftline", ignore=lambda *_: ["__pycache__"])
    return root


@pytest.fixture
def workspace(copied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """A checkout whose code, the copy's, is locked."""
    for module in (code_lock, code_state):
        name = Path(str(module.__file__)).name
        monkeypatch.setattr(module, "__file__", str(copied / "graftline" / "core" / name))
    shutil.copy(ROOT / CODE_LOCK, tmp_path)
    return Workspace(tmp_path)


@pytest.fixture
def edit(copied: Path) -> Iterator[Callable[[str], None]]:
    """Adds a line to a module, until the test ends."""
    before: dict[Path, str] = {}

    def add(module: str) -> None:
        path = copied / "graftline" / module
        before[path] = path.read_text()
        path.write_text(f"{before[path]}\n# edited\n")

    yield add
    for path, text in before.items():
        path.write_text(text)


def test_locking_again_changes_nothing(workspace: Workspace) -> None:
    path = workspace.root / CODE_LOCK
    path.unlink()
    assert lock_code(workspace) == STAGES
    before = path.stat().st_mtime_ns
    assert lock_code(workspace) == ()
    assert path.stat().st_mtime_ns == before
    assert tuple(locked_digests(workspace.root)) == STAGES


def test_another_version_of_the_same_code_is_written_down(workspace: Workspace) -> None:
    path = workspace.root / CODE_LOCK
    before = path.read_text()
    path.write_text(before.replace("version: ", "version: 0.0.1-of-before-"))
    assert lock_code(workspace) == ()
    assert path.read_text() == before


@pytest.mark.parametrize(
    "module",
    [
        "core/progress.py",
        "core/errors.py",
        "core/params/messages.py",
        "core/params/promote.py",
        "orchestration/dvc.py",
        "inference/serving/app.py",
        "registry/gate.py",
        "__main__.py",
    ],
)
def test_what_only_tells_or_serves_makes_no_stage_stale(
    workspace: Workspace, edit: Callable[[str], None], module: str
) -> None:
    edit(module)
    assert changed_code(workspace) == ()


@pytest.mark.parametrize(
    ("module", "stale"),
    [
        ("steps/load.py", ("load",)),
        ("data/sources/idx.py", ("load",)),
        # Choosing what to freeze trains by the loop too.
        ("training/loop.py", ("freeze", "train")),
        ("selection/successive_halving.py", ("freeze",)),
        ("formats/converters.py", ("export",)),
        ("data/resize.py", ("preprocess", "evaluate")),
        ("core/params/train.py", STAGES),
    ],
)
def test_what_computes_makes_its_stages_stale(
    workspace: Workspace, edit: Callable[[str], None], module: str, stale: tuple[str, ...]
) -> None:
    edit(module)
    assert changed_code(workspace) == stale
    with pytest.raises(CodeChangedError, match=f"the code of the step {stale[0]} is another"):
        refuse_other_code(workspace, stale[0])
    assert lock_code(workspace) == stale
    refuse_other_code(workspace, stale[0])


def test_the_ends_of_lines_do_not_count(copied: Path, workspace: Workspace) -> None:
    path = copied / "graftline" / "training" / "loop.py"
    before = path.read_bytes()
    path.write_bytes(before.replace(b"\n", b"\r\n"))
    assert changed_code(workspace) == ()
    path.write_bytes(before)


def test_nothing_is_kept_where_nothing_can_be(workspace: Workspace) -> None:
    workspace.var.write_text("no folder")
    assert changed_code(workspace) == ()


def test_without_the_file_there_is_nothing_to_differ_from(workspace: Workspace) -> None:
    (workspace.root / CODE_LOCK).unlink()
    refuse_other_code(workspace, "train")


@pytest.mark.parametrize("text", ["", "[1, 2", "steps: 3", "\x00", "version: 1"])
def test_a_file_that_is_none_says_nothing(workspace: Workspace, text: str) -> None:
    (workspace.root / CODE_LOCK).write_text(text)
    assert changed_code(workspace) == STAGES
    with pytest.raises(CodeChangedError):
        refuse_other_code(workspace, "load")
