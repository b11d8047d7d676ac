from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from graftline.core.errors import DataError
from graftline.core.params import DataParams
from graftline.core.workspace import Workspace
from graftline.data import fingerprint as module
from graftline.data import seen
from graftline.data.fingerprint import Difference, SourceState, keep, kept, source_state
from graftline.data.sources import bundled, keras_mnist


def data(source: str, path: Path | None = None) -> DataParams:
    return DataParams.model_validate({"source": source, "path": path and str(path)})


def write(path: Path, text: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text or path.name, encoding="utf-8")
    return path


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "checkout")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    root = tmp_path / "images"
    for name in ("cat/1.png", "cat/2.png", "dog/1.png"):
        write(root / name, name)
    return root


@pytest.fixture
def nothing_is_fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seen, "_FRESH_NS", -1_000_000_000_000)


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are read."""
    names: list[str] = []
    real = module.opened_file

    def counted(path: str, within: str | None) -> Any:
        names.append(os.path.basename(path))
        return real(path, within)

    monkeypatch.setattr(module, "opened_file", counted)
    return names


def test_sources_without_files_are_what_their_pinned_hash_says(workspace: Workspace) -> None:
    assert source_state(workspace, data("mnist-5k")).files == {"mnist-5k": bundled.DIGITS.sha256}
    assert source_state(workspace, data("mnist")).files == {"mnist": keras_mnist.SHA256}


def test_a_folder_is_its_images_wherever_it_lies(
    workspace: Workspace, images: Path, tmp_path: Path
) -> None:
    first = source_state(workspace, data("folder", images))
    assert set(first.files) == {"cat/1.png", "cat/2.png", "dog/1.png"}
    write(images / "cat" / ".DS_Store")
    shutil.copytree(images, tmp_path / "elsewhere")
    assert source_state(workspace, data("folder", tmp_path / "elsewhere")).digest == first.digest


def test_what_came_changed_and_went_is_counted(workspace: Workspace, images: Path) -> None:
    before = source_state(workspace, data("folder", images))
    write(images / "cat/3.png")
    write(images / "dog/2.png")
    write(images / "cat/1.png", "another cat")
    (images / "cat/2.png").unlink()
    after = source_state(workspace, data("folder", images))
    assert after.digest != before.digest
    difference = Difference.between(before, after)
    assert difference == Difference(added=2, changed=1, removed=1)
    assert str(difference) == "2 added, 1 changed, 1 removed"
    assert not Difference.between(before, before)


@pytest.mark.usefixtures("nothing_is_fresh")
def test_an_unchanged_file_is_read_once(
    workspace: Workspace, images: Path, read: list[str]
) -> None:
    first = source_state(workspace, data("folder", images))
    assert len(read) == 3
    read.clear()
    write(images / "dog/2.png")
    source_state(workspace, data("folder", images))
    assert read == ["2.png"]
    (images / "dog/2.png").unlink()
    assert source_state(workspace, data("folder", images)).digest == first.digest


@pytest.mark.usefixtures("nothing_is_fresh")
def test_names_that_are_no_text_are_remembered_too(
    workspace: Workspace, images: Path, read: list[str]
) -> None:
    # In the order of their bytes, which is not that of the characters that stand for them.
    names = (b"\xff.png", "\uffff.png".encode(), "ä.png".encode())
    for name in names:
        with open(os.fsencode(images / "cat") + b"/" + name, "wb") as file:
            file.write(name)
    first = source_state(workspace, data("folder", images))
    assert len(first.files) == len(read) == 6
    read.clear()
    assert source_state(workspace, data("folder", images)) == first
    assert read == []


@pytest.mark.usefixtures("nothing_is_fresh")
def test_a_change_that_keeps_size_and_time_is_seen(workspace: Workspace, images: Path) -> None:
    file = images / "cat/1.png"
    first = source_state(workspace, data("folder", images))
    status = file.stat()
    file.write_text("CAT/1.png")
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert file.stat().st_size == status.st_size
    assert source_state(workspace, data("folder", images)).digest != first.digest


def test_a_file_that_was_written_just_now_is_read_again(
    workspace: Workspace, images: Path, read: list[str]
) -> None:
    for _ in range(2):
        source_state(workspace, data("folder", images))
    assert len(read) == 6


def test_a_linked_folder_is_part_of_the_source(workspace: Workspace, images: Path) -> None:
    # DVC follows no link to a folder.
    (images / "wolf").symlink_to(images / "dog")
    first = source_state(workspace, data("folder", images))
    assert "wolf/1.png" in first.files
    write(images / "dog/2.png")
    after = source_state(workspace, data("folder", images))
    assert Difference.between(first, after).added == 2


def test_a_manifest_is_its_table_and_the_images_that_it_names(
    workspace: Workspace, images: Path
) -> None:
    write(images / "manifest.csv", "path,label\ncat/1.png,cat\ndog/1.png,dog\n")
    first = source_state(workspace, data("manifest", images))
    assert set(first.files) == {"manifest.csv", "cat/1.png", "dog/1.png"}
    write(images / "cat/2.png", "no row names it")
    assert source_state(workspace, data("manifest", images)).digest == first.digest
    write(images / "manifest.csv", "path,label\ncat/1.png,dog\ndog/1.png,cat\n")
    assert source_state(workspace, data("manifest", images)).digest != first.digest


def test_idx_and_npz_are_the_files_that_are_read(workspace: Workspace, tmp_path: Path) -> None:
    for kind in ("images-idx3", "labels-idx1"):
        write(tmp_path / "idx" / f"train-{kind}-ubyte")
    write(tmp_path / "idx" / "notes.txt")
    assert len(source_state(workspace, data("idx", tmp_path / "idx")).files) == 2
    archive = tmp_path / "images.npz"
    np.savez(archive, images=np.zeros((2, 4, 4), np.uint8), labels=np.arange(2))
    first = source_state(workspace, data("npz", archive))
    assert set(first.files) == {"images.npz"}
    np.savez(archive, images=np.ones((2, 4, 4), np.uint8), labels=np.arange(2))
    assert source_state(workspace, data("npz", archive)).digest != first.digest


def test_a_source_that_is_none_is_refused_as_load_refuses_it(
    workspace: Workspace, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="cannot be reached"):
        source_state(workspace, data("folder", tmp_path / "absent"))
    with pytest.raises(DataError, match="no file of train-images"):
        source_state(workspace, data("idx", tmp_path))


@pytest.mark.parametrize("content", [b"", b"no parquet at all"])
def test_what_was_kept_is_read_back_and_a_broken_file_is_none(
    content: bytes, workspace: Workspace, images: Path, tmp_path: Path
) -> None:
    state = SourceState({"äö\n.png": "ab", "b": "cd"})
    file = tmp_path / "kept.parquet"
    assert kept(file) is None
    keep(state, file)
    assert kept(file) == state
    file.write_bytes(content)
    assert kept(file) is None
    # The cache of what was read is such a file too: it is made anew.
    cache = workspace.var / "source" / "seen.parquet"
    first = source_state(workspace, data("folder", images))
    cache.write_bytes(content)
    assert source_state(workspace, data("folder", images)) == first


def a_link_out(file: Path) -> None:
    outside = write(file.parents[2] / "outside.txt", "a secret")
    file.symlink_to(outside)


def a_link_to_a_device(file: Path) -> None:
    file.symlink_to("/dev/zero")


def a_terabyte_of_nothing(file: Path) -> None:
    with file.open("wb") as sparse:
        sparse.truncate(1 << 40)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="only Linux tells what was opened")
@pytest.mark.parametrize(
    ("made", "told"),
    [
        (a_link_out, "leads out of the source"),
        (a_link_to_a_device, "is no regular file"),
        (os.mkfifo, "is no regular file"),
        (Path.mkdir, "is a folder"),
        (a_terabyte_of_nothing, "has 1099511627776 bytes, more than any image of 50000000 pixels"),
    ],
)
def test_what_takes_a_files_place_after_the_listing_is_not_read(
    workspace: Workspace,
    images: Path,
    monkeypatch: pytest.MonkeyPatch,
    made: Callable[[Path], None],
    told: str,
) -> None:
    listing = module._listed
    file = images / "cat/1.png"

    def replaced(params: DataParams, root: Path) -> Any:
        listed = listing(params, root)
        file.unlink()
        made(file)
        return listed

    monkeypatch.setattr(module, "_listed", replaced)
    state = source_state(workspace, data("folder", images))
    assert state.files["cat/1.png"] == told
    assert len(state.files["cat/2.png"]) == 64


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="only Linux tells what was opened")
def test_a_table_that_became_a_link_out_is_not_read_either(
    workspace: Workspace, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = write(images / "manifest.csv", "path,label\ncat/1.png,cat\n")
    listing = module._listed

    def replaced(params: DataParams, root: Path) -> Any:
        listed = listing(params, root)
        table.rename(images.parent / "outside.csv")
        table.symlink_to(images.parent / "outside.csv")
        return listed

    monkeypatch.setattr(module, "_listed", replaced)
    state = source_state(workspace, data("manifest", images))
    assert state.files["manifest.csv"] == "leads out of the source"
