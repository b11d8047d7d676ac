"""A change of the source is never lost, whenever it comes; DVC does not see one behind a link."""

from __future__ import annotations

import gzip
import json
import os
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from graftline.core.params import read_params
from graftline.core.workspace import Workspace
from graftline.data import fingerprint, seen
from graftline.data.fingerprint import is_loaded, loaded_state, note_loaded, source_state
from graftline.data.opening import opened_file
from graftline.operations.changes import note_finished
from graftline.operations.stage_runner import run_stage
from graftline.orchestration import dvc
from graftline.orchestration.pipeline import Pipeline
from graftline.steps import load as step


def add(folder: Path, name: str, seed: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (8, 8), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / f"{name}.png")


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """Its source has two classes, one of them behind a link to a folder."""
    images = tmp_path / "images"
    for number in range(10):
        add(images / "cat", str(number), number)
        add(images / ".elsewhere" / "dog", str(number), 100 + number)
    (images / "dog").symlink_to(images / ".elsewhere" / "dog")
    root = tmp_path / "checkout"
    root.mkdir()
    record = {
        "data": {"source": "folder", "path": str(images)},
        "backbone": {"weights": "random", "cut": "block_5_add"},
    }
    (root / "params.yaml").write_text(json.dumps(record))
    return Workspace(root)


def change(workspace: Workspace) -> None:
    """Puts another image behind the link, in the place of one that is there."""
    add(Path(read_params(workspace.params_file).data.path or "") / "dog", "3", 1000)


def is_loaded_now(workspace: Workspace) -> bool | None:
    return is_loaded(workspace, source_state(workspace, read_params(workspace.params_file).data))


def while_others_are_read(workspace: Workspace, patch: pytest.MonkeyPatch) -> None:
    real = step._stored

    def stored(*given: Any) -> Any:
        made = real(*given)
        change(workspace)
        return made

    patch.setattr(step, "_stored", stored)


def after_it_was_read(workspace: Workspace, patch: pytest.MonkeyPatch) -> None:
    real = step.load

    def load(*given: Any) -> Any:
        dataset = real(*given)
        change(workspace)
        return dataset

    patch.setattr(step, "load", load)


@pytest.mark.parametrize("moment", [while_others_are_read, after_it_was_read])
def test_what_changes_while_load_works_counts_as_not_loaded(
    moment: Callable[[Workspace, pytest.MonkeyPatch], None],
    workspace: Workspace,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patch:
        moment(workspace, patch)
        run_stage("load", workspace)
    assert is_loaded_now(workspace) is False
    run_stage("load", workspace)
    assert is_loaded_now(workspace) is True


def test_what_changed_between_the_listing_and_the_reading_was_loaded(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = step._stored

    def stored(*given: Any) -> Any:
        change(workspace)
        return real(*given)

    with monkeypatch.context() as patch:
        patch.setattr(step, "_stored", stored)
        run_stage("load", workspace)
    assert is_loaded_now(workspace) is True


def test_a_table_that_changes_while_load_works_counts_as_not_loaded(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = json.loads(workspace.params_file.read_text())
    images = Path(record["data"]["path"])
    (images / "dog").unlink()
    rows = [f"cat/{number}.png,{'ab'[number % 2]}\n" for number in range(10)]
    table = images / "manifest.csv"
    table.write_text("path,label\n" + "".join(rows))
    record["data"] |= {"source": "manifest", "manifest": table.name}
    workspace.params_file.write_text(json.dumps(record))
    real = step._stored

    def stored(*given: Any) -> Any:
        table.write_text("path,label\n" + "".join(reversed(rows)))
        return real(*given)

    with monkeypatch.context() as patch:
        patch.setattr(step, "_stored", stored)
        run_stage("load", workspace)
    assert is_loaded_now(workspace) is False
    run_stage("load", workspace)
    assert is_loaded_now(workspace) is True


@pytest.mark.parametrize("engine", ["local", pytest.param("dask", marks=pytest.mark.slow)])
def test_what_load_has_read_nobody_reads_again(
    engine: str, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = json.loads(workspace.params_file.read_text())
    record["compute"] = {"engine": engine, "workers": 1}
    record["data"]["on_corrupt"] = "skip"
    workspace.params_file.write_text(json.dumps(record))
    images = Path(record["data"]["path"])
    (images / "cat" / "broken.png").write_bytes(b"no image at all")
    with open(os.fsencode(images / "cat") + b"/no-text-\xff.png", "wb") as file:
        file.write((images / "cat" / "1.png").read_bytes())
    (images / "cat" / "locked.png").symlink_to(images / "cat" / "nowhere.png")
    read: list[str] = []

    def counted(path: str, within: str | None) -> Any:
        read.append(Path(path).name)
        return opened_file(path, within)

    monkeypatch.setattr(fingerprint, "opened_file", counted)
    # A file that was written just now would be read again, since it may change again unseen.
    if engine == "dask":
        time.sleep(seen._FRESH_NS / 1e9)
    else:
        monkeypatch.setattr(seen, "_FRESH_NS", 0)
    run_stage("load", workspace)
    assert is_loaded_now(workspace) is True
    # It leads nowhere, and is tried each time.
    assert read == ["locked.png"]
    state = source_state(workspace, read_params(workspace.params_file).data)
    (workspace.var / "source" / "seen.parquet").unlink()
    assert source_state(workspace, read_params(workspace.params_file).data) == state
    assert loaded_state(workspace) == state


def an_archive(root: Path) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    arrays = {
        "images": rng.integers(0, 255, (40, 8, 8), dtype=np.uint8),
        "labels": np.arange(40) % 2,
    }
    # Labels come first here, and something that is not needed in between.
    np.savez(
        root / "images.npz", labels=arrays["labels"], notes=np.zeros(9000), images=arrays["images"]
    )
    return {"source": "npz", "path": str(root / "images.npz")}


def a_packed_archive(root: Path) -> dict[str, Any]:
    found = an_archive(root)
    with np.load(found["path"]) as arrays:
        np.savez_compressed(found["path"], **arrays)
    return found


def idx_files(root: Path) -> dict[str, Any]:
    rng, folder = np.random.default_rng(0), root / "idx"
    folder.mkdir()
    images = struct.pack(">4I", 0x803, 40, 8, 8) + rng.integers(0, 255, 2560, np.uint8).tobytes()
    labels = struct.pack(">2I", 0x801, 40) + bytes(number % 2 for number in range(40))
    (folder / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(images))
    (folder / "train-labels-idx1-ubyte").write_bytes(labels)
    return {"source": "idx", "path": str(folder)}


@pytest.mark.parametrize("made", [an_archive, a_packed_archive, idx_files])
def test_nor_files_of_many_images(
    made: Callable[[Path], dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = {"data": made(tmp_path), "backbone": {"weights": "random", "cut": "block_5_add"}}
    workspace = Workspace(tmp_path / "checkout")
    workspace.root.mkdir()
    workspace.params_file.write_text(json.dumps(record))
    monkeypatch.setattr(seen, "_FRESH_NS", 0)
    with monkeypatch.context() as patch:
        patch.setattr(fingerprint, "opened_file", None)
        run_stage("load", workspace)
        assert is_loaded_now(workspace) is True
    (workspace.var / "source" / "seen.parquet").unlink()
    assert is_loaded_now(workspace) is True
    one = max(Path(record["data"]["path"]).parent.glob("**/*train-images*"), default=None)
    file = one or tmp_path / "images.npz"
    file.write_bytes(file.read_bytes() + b"x")
    assert is_loaded_now(workspace) is False


@pytest.fixture
def loads(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> Callable[[], bool]:
    """Says whether a flow would have ``load`` run, to which DVC sees no reason."""
    forced: list[bool] = []

    def reproduce(workspace: Workspace, command: dvc.StageCommand, *rest: Any) -> str:
        forced.append(command.force)
        step.load(workspace, read_params(workspace.params_file))
        return "executed"

    monkeypatch.setattr(dvc, "staleness", lambda workspace: dvc.Staleness(frozenset()))
    monkeypatch.setattr(dvc, "reproduce", reproduce)

    def asked() -> bool:
        forced.clear()
        pipeline = Pipeline(workspace, read_params(workspace.params_file))
        try:
            pipeline.run_stage("load", 60.0, print)
        finally:
            pipeline.close()
        return forced == [True]

    return asked


def note(workspace: Workspace, *notes: str) -> None:
    """Notes that what the source holds now was loaded, or that a flow got to its end with it."""
    params = read_params(workspace.params_file)
    state = source_state(workspace, params.data)
    if "loaded" in notes:
        note_loaded(workspace, state)
    if "finished" in notes:
        note_finished(workspace, params, state)


def test_what_is_loaded_is_not_loaded_again(
    workspace: Workspace, loads: Callable[[], bool]
) -> None:
    # Outputs that came with the checkout: nobody knows here what they were loaded from, but DVC.
    assert not loads()
    note(workspace, "loaded")
    assert not loads()
    note(workspace, "finished")
    assert not loads()


def test_a_change_behind_a_link_is_loaded_once(
    workspace: Workspace, loads: Callable[[], bool]
) -> None:
    note(workspace, "loaded", "finished")
    change(workspace)
    assert loads()
    assert not loads()


def test_it_is_loaded_also_before_any_flow_has_ended(
    workspace: Workspace, loads: Callable[[], bool]
) -> None:
    note(workspace, "loaded")
    change(workspace)
    assert loads()
    assert not loads()


def test_what_was_taken_back_is_loaded_again(
    workspace: Workspace, loads: Callable[[], bool]
) -> None:
    image = Path(read_params(workspace.params_file).data.path or "") / "dog" / "3.png"
    before = image.read_bytes()
    note(workspace, "loaded", "finished")
    change(workspace)
    # This one is loaded, and its flow comes to no end.
    assert loads()
    image.write_bytes(before)
    assert loads()
    assert not loads()
