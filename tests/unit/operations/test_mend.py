"""graftline mend: what a failing disk has damaged goes, here and in DVC's cache; the rest stays."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from graftline.cli.mend import show_mended
from graftline.core.checksums import seal, verify_all
from graftline.core.errors import PipelineBusyError
from graftline.core.locks import pipeline_lock
from graftline.core.records import Metrics
from graftline.core.workspace import Workspace
from graftline.operations.mend import mend, remove_damaged_objects
from tests.unit.core.test_checksums import METRICS, rot

_FEATURES = {"features.json": b"{}", "train.npy": b"0123456789"}
_MAKE = """
import sys
sys.path.insert(0, {package!r})
from pathlib import Path
from graftline.core.files import replacing_directory
with replacing_directory(Path("data/features"), sealed=True) as folder:
    (folder / "train.npy").write_bytes(b"0123456789" * 100)
"""
_PIPELINE = """
stages:
  extract:
    cmd: {python} make.py
    deps: [make.py]
    outs: [{{data/features: {{persist: true}}}}]
"""


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """A checkout as DVC leaves it, with two outputs and their objects in the cache."""
    workspace = Workspace(tmp_path / "checkout")
    (workspace.root / ".dvc").mkdir(parents=True)
    (workspace.root / ".dvc" / "config").write_text("[core]\n    no_scm = True\n")
    (workspace.root / "dvc.yaml").write_text("")
    workspace.features.mkdir(parents=True)
    for name, content in _FEATURES.items():
        (workspace.features / name).write_bytes(content)
    seal(workspace.features)
    listed = [
        {"md5": _keep(workspace, path.read_bytes()), "relpath": path.name}
        for path in sorted(workspace.features.iterdir())
    ]
    METRICS.write(workspace.metrics)
    outs = {
        "data/features": _keep(workspace, json.dumps(listed).encode(), ".dir"),
        "reports/metrics.json": _keep(workspace, workspace.metrics.read_bytes()),
    }
    stage = {"cmd": "x", "outs": [{"path": path, "md5": md5} for path, md5 in outs.items()]}
    lock = {"schema": "2.0", "stages": {"extract": stage}}
    (workspace.root / "dvc.lock").write_text(json.dumps(lock))
    return workspace


def _keep(workspace: Workspace, content: bytes, suffix: str = "") -> str:
    md5 = hashlib.md5(content).hexdigest() + suffix
    path = _object(workspace, md5)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return md5


def _object(workspace: Workspace, md5: str) -> Path:
    return workspace.root / ".dvc" / "cache" / "files" / "md5" / md5[:2] / md5[2:]


def test_what_is_whole_stays(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    assert show_mended(workspace) == 0
    assert capsys.readouterr().out == "no output and no object of DVC's cache is damaged\n"
    assert Metrics.read(workspace.metrics) == METRICS


def test_what_is_damaged_goes(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    # echo -n 0123456789 | md5sum
    damaged = _object(workspace, "781e5e245d69b566979b86e28d23f2c7")
    rot(damaged, 3)
    rot(workspace.features / "train.npy", 3)
    rot(workspace.metrics, 77)
    assert show_mended(workspace) == 0
    said = capsys.readouterr().out
    assert "removed data/features, damaged" in said
    assert "removed reports/metrics.json, damaged" in said
    assert f"removed {damaged} of DVC's cache, damaged" in said
    assert not workspace.features.exists() and not workspace.metrics.exists()
    assert not damaged.exists()
    # echo -n '{}' | md5sum
    assert _object(workspace, "99914b932bd37a50b983c5e7c90ae93b").exists()


def test_a_list_of_a_folder_s_files_is_an_object_too(workspace: Workspace) -> None:
    (listed,) = (workspace.root / ".dvc" / "cache").rglob("*.dir")
    rot(listed, 5)
    assert remove_damaged_objects(workspace.root, ("load",)) == []
    assert remove_damaged_objects(workspace.root) == [listed]
    assert workspace.features.exists()


def test_an_object_that_no_lock_names_any_more_is_looked_at_too(workspace: Workspace) -> None:
    # A step that writes these bytes again would be given the damaged ones: DVC has them already.
    whole, damaged = (_keep(workspace, content) for content in (b"of before", b"of another commit"))
    rot(_object(workspace, damaged), 3)
    (workspace.root / "dvc.lock").unlink()
    assert mend(workspace) == ([], [_object(workspace, damaged)])
    assert _object(workspace, whole).is_file()


def test_nothing_is_taken_from_who_is_at_work(workspace: Workspace) -> None:
    with pipeline_lock(workspace), pytest.raises(PipelineBusyError):
        mend(workspace)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["copy", "symlink", "hardlink", "elsewhere", "pulled", "collected"])
def test_the_remedy_helps_however_dvc_keeps_its_cache(tmp_path: Path, how: str) -> None:
    root = tmp_path / "checkout"
    root.mkdir()
    package = str(Path(__file__).resolve().parents[3])
    (root / "make.py").write_text(_MAKE.format(package=package))
    (root / "dvc.yaml").write_text(_PIPELINE.format(python=sys.executable))
    _dvc(root, "init", "--no-scm", "-q")
    if how in ("symlink", "hardlink"):
        _dvc(root, "config", "cache.type", how)
    if how == "elsewhere":
        _dvc(root, "cache", "dir", str(tmp_path / "other"))
    _dvc(root, "remote", "add", "-d", "far", str(tmp_path / "remote"))
    _dvc(root, "repro", "-q")
    features = root / "data" / "features"
    cache = tmp_path / "other" if how == "elsewhere" else root / ".dvc" / "cache"
    md5 = hashlib.md5(b"0123456789" * 100).hexdigest()
    kept = cache / "files" / "md5" / md5[:2] / md5[2:]
    assert kept.is_file()
    if how == "pulled":
        _dvc(root, "push", "-q")
        far = tmp_path / "remote" / "files" / "md5" / md5[:2] / md5[2:]
        rot(far, 9)
        kept.unlink()
        (features / "train.npy").unlink()
        _dvc(root, "pull", "-q")
    else:
        rot(kept, 9)
        if not _is_linked(features / "train.npy"):
            rot(features / "train.npy", 9)
    if how == "collected":
        _dvc(root, "gc", "--workspace", "--force", "-q")
    # All is as it was written, as far as DVC goes.
    assert _dvc(root, "status", "--json").strip().splitlines()[-1] == "{}"
    outputs, objects = mend(Workspace(root))
    assert outputs == [features]
    assert objects == [kept]
    _dvc(root, "repro", "-q")
    verify_all(features)
    assert kept.read_bytes() == b"0123456789" * 100
    assert mend(Workspace(root)) == ([], [])


def _is_linked(path: Path) -> bool:
    return path.is_symlink() or path.stat().st_nlink > 1


def _dvc(root: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "dvc", *arguments],
        cwd=root,
        env={
            **os.environ,
            "DVC_NO_ANALYTICS": "true",
            "DVC_SITE_CACHE_DIR": str(root.parent / "s"),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
