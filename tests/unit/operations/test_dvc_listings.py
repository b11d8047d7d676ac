"""What DVC is told to write is looked at before DVC follows it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from graftline.core.errors import ReproductionError
from graftline.core.workspace import Workspace
from graftline.operations import reproduce
from graftline.operations.dvc_listings import checked_lock, listing
from graftline.operations.worktrees import CACHE

DIGEST = "0" * 32 + ".dir"
OUTSIDE = ["../x", "a/../../x", "/etc/passwd", "..", "", "."]


def lock(path: Path, load: str) -> Path:
    path.write_text(f"schema: '2.0'\nstages:\n  load:\n    cmd: x\n    outs: {load}\n")
    return path


def listed(cache: Path, *names: str, digest: str = DIGEST) -> Path:
    path = cache / "files" / "md5" / digest[:2] / digest[2:]
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps([{"md5": "0" * 32, "relpath": name} for name in names]))
    return path


def test_a_lock_is_written_anew_with_what_was_looked_at(tmp_path: Path) -> None:
    path = lock(tmp_path / "dvc.lock", f"[{{path: data/loaded, hash: md5, md5: {DIGEST}}}]")
    text, digest = checked_lock(path, "data/loaded")
    assert digest == DIGEST
    path.write_text(text)
    assert checked_lock(path, "data/loaded") == (text, DIGEST)
    assert checked_lock(path, "data/other")[1] is None


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_lock_that_names_a_file_outside_is_refused(tmp_path: Path, name: str) -> None:
    files = f"[{{path: data/loaded, files: [{{relpath: {json.dumps(name)}}}]}}]"
    with pytest.raises(ReproductionError, match="leads out of the folder"):
        checked_lock(lock(tmp_path / "dvc.lock", files), "data/loaded")


@pytest.mark.parametrize(
    "text",
    ["", "[]", "stages: 1", "stages: {load: 1}", "stages: {load: {outs: [{}]}}", "a: [", "*a"],
)
def test_what_is_no_lock_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "dvc.lock").write_text(text)
    with pytest.raises(ReproductionError, match="is not what DVC writes"):
        checked_lock(tmp_path / "dvc.lock", "data/loaded")


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_listing_in_the_cache_that_names_a_file_outside_is_never_followed(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed(tmp_path / CACHE, "classes.json", name)
    monkeypatch.setattr(reproduce, "dvc_ended", lambda *_, **__: pytest.fail("DVC was started"))
    copy = reproduce._Copy(Workspace(tmp_path), {}, tmp_path, DIGEST, False)
    with pytest.raises(ReproductionError, match="leads out of the folder"):
        reproduce._has_data(copy)


def test_a_listing_is_found_where_any_dvc_kept_it(tmp_path: Path) -> None:
    assert listing(tmp_path, DIGEST) is None
    path = listed(tmp_path, "classes.json", "images/0.parquet")
    assert listing(tmp_path, DIGEST) == path
    earlier = tmp_path / DIGEST[:2] / DIGEST[2:]
    path.rename(earlier.parent.mkdir() or earlier)
    assert listing(tmp_path, DIGEST) == earlier
    earlier.write_text("{")
    with pytest.raises(ReproductionError, match="is not what DVC writes"):
        listing(tmp_path, DIGEST)


@pytest.mark.slow
def test_dvc_itself_writes_outside(tmp_path: Path) -> None:
    """The reason for all of it; once DVC refuses this, it can go."""

    def dvc(*arguments: str) -> None:
        subprocess.run([sys.executable, "-m", "dvc", *arguments, "-q"], cwd=root, check=False)

    root = tmp_path / "a" / "checkout"
    root.mkdir(parents=True)
    dvc("init", "--no-scm")
    (root / "dvc.yaml").write_text("stages: {load: {cmd: touch d/a, outs: [d]}}\n")
    digest = "764efa883dda1e11db47671c4a3bbd9e"
    content = root / ".dvc" / "cache" / "files" / "md5" / digest[:2] / digest[2:]
    content.parent.mkdir(parents=True)
    content.write_text("hi\n")
    files = f"[{{relpath: ../../x, md5: {digest}, size: 3}}]"
    lock(root / "dvc.lock", f"[{{path: d, hash: md5, files: {files}}}]")
    dvc("checkout", "load")
    assert (tmp_path / "a" / "x").read_text() == "hi\n"
