from __future__ import annotations

import hashlib
import shutil
import tempfile
from pathlib import Path

import pytest
from mlflow.entities.model_registry import ModelVersion

from graftline.core.errors import MissingOutputError, StorageFullError, TrackingError
from graftline.core.workspace import Workspace
from graftline.registry import tracking
from graftline.registry.tracking.versions import as_version
from graftline.steps.register import register
from tests import disks, finished, histories

PARAMS = finished.some_params()


@pytest.fixture
def registered(tracked: Workspace) -> Workspace:
    register(tracked, PARAMS, tracking.open_run(tracked, PARAMS))
    return tracked


def test_a_version_is_found_by_number_and_by_alias(registered: Workspace) -> None:
    by_number = tracking.find_version(registered, "graftline", "1")

    assert by_number == tracking.find_version(registered, "graftline", "challenger")
    assert by_number is not None and by_number.aliases == ("challenger",)
    assert tracking.all_versions(registered, "graftline") == [by_number]


@pytest.mark.parametrize(("name", "which"), [("graftline", "7"), ("graftline", "champion")])
def test_what_is_not_there_is_none(registered: Workspace, name: str, which: str) -> None:
    assert tracking.find_version(registered, name, which) is None
    assert tracking.find_version(registered, "nobody", which) is None


@pytest.mark.parametrize("number", ["../../../elsewhere", "1/..", "", "\u00b2", "1\n"])
def test_a_version_whose_number_is_none_names_no_folder(number: str) -> None:
    with pytest.raises(TrackingError, match="the registry says that graftline has a version"):
        as_version(ModelVersion("graftline", number, 0))


def test_a_models_files_are_fetched_once_and_again_when_changed(registered: Workspace) -> None:
    version = tracking.find_version(registered, "graftline", "1")
    assert version is not None

    folder = tracking.fetch_model(registered, version)
    assert folder == registered.var / "models" / "graftline" / "1"
    for name in ("model.tflite", "trained.json"):
        assert (folder / name).read_bytes() == (registered.trained / name).read_bytes()

    inode = folder.stat().st_ino
    assert tracking.fetch_model(registered, version).stat().st_ino == inode
    (folder / "model.tflite").write_bytes(b"something else")
    tracking.fetch_model(registered, version)
    assert (folder / "model.tflite").read_bytes() == (
        registered.trained / "model.tflite"
    ).read_bytes()


def test_a_record_that_was_changed_is_not_taken(registered: Workspace) -> None:
    version = tracking.find_version(registered, "graftline", "1")
    assert version is not None
    folder = tracking.fetch_model(registered, version)
    sound = (folder / "trained.json").read_bytes()
    turned = sound + b" "

    (folder / "trained.json").write_bytes(turned)
    assert (tracking.fetch_model(registered, version) / "trained.json").read_bytes() == sound
    uri = histories.client_of(registered).get_model_version_download_uri("graftline", "1")
    (kept,) = Path(uri.removeprefix("file://")).rglob("trained.json")
    kept.write_bytes(turned)
    (folder / "trained.json").unlink()
    with pytest.raises(MissingOutputError, match="version 1 are not those"):
        tracking.fetch_model(registered, version)


def test_a_link_in_the_store_brings_nothing_of_this_machine(
    registered: Workspace, tmp_path: Path
) -> None:
    version = tracking.find_version(registered, "graftline", "1")
    assert version is not None
    uri = histories.client_of(registered).get_model_version_download_uri("graftline", "1")
    (kept,) = Path(uri.removeprefix("file://")).rglob("trained.json")
    (tmp_path / "secret").write_text("secret")
    (kept.parent / "extra").symlink_to(tmp_path / "secret")

    with pytest.raises(MissingOutputError, match="version 1 are not those"):
        tracking.fetch_model(registered, version)
    assert not (registered.var / "models" / "graftline" / "1").exists()


def test_a_version_without_its_files_is_told(registered: Workspace) -> None:
    version = tracking.find_version(registered, "graftline", "1")
    assert version is not None
    uri = histories.client_of(registered).get_model_version_download_uri("graftline", "1")
    shutil.rmtree(Path(uri.removeprefix("file://")))

    with pytest.raises(MissingOutputError, match="version 1 are not those"):
        tracking.fetch_model(registered, version)
    assert not (registered.var / "models" / "graftline" / "1").exists()


@pytest.mark.parametrize("place", ["temporary", "models"])
def test_a_full_disk_is_not_taken_for_lost_files(
    registered: Workspace, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = tracking.find_version(registered, "graftline", "1")
    assert version is not None
    folder = tmp_path / "tmp" if place == "temporary" else registered.var / "models"
    with disks.mounted(folder, "size=16k"):
        if place == "temporary":
            monkeypatch.setattr(tempfile, "tempdir", str(folder))
        with disks.filled(folder, 8192), pytest.raises(StorageFullError, match="no space is left"):
            tracking.fetch_model(registered, version)
        monkeypatch.undo()
    assert tracking.fetch_model(registered, version).is_dir()


# What the registry says is believed only where this checkout has not noted it itself. -------------


def registered_path(workspace: Workspace) -> Path:
    return workspace.var / "mlflow" / "registered.json"


def files_of(workspace: Workspace, version: str) -> Path:
    """Where a version's model lies in the store."""
    uri = histories.client_of(workspace).get_model_version_download_uri("graftline", version)
    (model,) = Path(uri.removeprefix("file://")).rglob("model.tflite")
    return model.parent


def turn(workspace: Workspace, version: str) -> None:
    """Changes a version's files, and has its tags agree, as a user who can write both would."""
    client = histories.client_of(workspace)
    for name, tag in (
        ("model.tflite", "graftline.litert_sha256"),
        ("trained.json", "graftline.trained_sha256"),
    ):
        path = files_of(workspace, version) / name
        path.write_bytes(path.read_bytes() + b" ")
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        client.set_model_version_tag("graftline", version, tag, digest)


def planted(workspace: Workspace) -> tracking.Version:
    """A version that somebody else has put into the registry, as the champion."""
    client = histories.client_of(workspace)
    first = client.get_model_version("graftline", "1")
    made = client.create_model_version("graftline", first.source, tags=dict(first.tags))
    client.set_registered_model_alias("graftline", "champion", made.version)
    version = tracking.find_version(workspace, "graftline", "champion")
    assert version is not None and version.version == "2"
    return version


def test_a_registry_whose_digests_fit_its_changed_files_is_not_believed(
    registered: Workspace,
) -> None:
    turn(registered, "1")
    version = tracking.find_version(registered, "graftline", "1")
    assert version is not None
    with pytest.raises(MissingOutputError, match="version 1 are not those") as caught:
        tracking.fetch_model(registered, version)
    assert "registered.json" in str(caught.value.fix)


def test_a_version_that_this_checkout_did_not_register_is_no_champion(
    registered: Workspace,
) -> None:
    version = planted(registered)
    with pytest.raises(MissingOutputError, match="version 2 was not registered by this") as caught:
        tracking.fetch_model(registered, version)
    path = registered_path(registered)
    assert f"rm {path}" in str(caught.value.fix)
    # The remedy that it names.
    path.unlink()
    assert (tracking.fetch_model(registered, version) / "model.tflite").is_file()


def test_serving_and_predicting_refuse_it_too(registered: Workspace) -> None:
    from graftline.inference.model_choice import choose_model
    from graftline.inference.serving.models import NamedSource

    planted(registered)
    with pytest.raises(MissingOutputError, match="was not registered by this checkout"):
        NamedSource(registered, "champion").load()
    with pytest.raises(MissingOutputError, match="was not registered by this checkout"):
        choose_model(registered, "champion")


def test_what_was_registered_before_anything_was_noted_is_noted_as_it_is(
    registered: Workspace,
) -> None:
    registered_path(registered).unlink()
    version = tracking.find_version(registered, "graftline", "1")
    assert version is not None
    assert tracking.fetch_model(registered, version)
    turn(registered, "1")
    shutil.rmtree(registered.var / "models")
    version = tracking.find_version(registered, "graftline", "1")
    assert version is not None
    with pytest.raises(MissingOutputError, match="version 1 are not those"):
        tracking.fetch_model(registered, version)


def test_in_a_shared_registry_the_versions_of_others_are_taken(
    registered: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = tracking.configure(registered).uri
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    another_machine = Workspace(tmp_path / "another")
    version = tracking.find_version(another_machine, "graftline", "1")
    assert version is not None
    folder = tracking.fetch_model(another_machine, version)
    assert (folder / "model.tflite").read_bytes() == (
        registered.trained / "model.tflite"
    ).read_bytes()


def test_in_a_shared_registry_what_was_registered_here_is_held_to_that(
    tracked: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking.configure(tracked).uri)
    monkeypatch.chdir(tracked.root)
    register(tracked, PARAMS, tracking.open_run(tracked, PARAMS))
    turn(tracked, "1")
    version = tracking.find_version(tracked, "graftline", "1")
    assert version is not None
    with pytest.raises(MissingOutputError, match="version 1 are not those"):
        tracking.fetch_model(tracked, version)


def test_a_model_that_was_made_anew_has_its_new_versions_noted(registered: Workspace) -> None:
    # The numbers begin again.
    histories.client_of(registered).delete_registered_model("graftline")
    model = registered.trained / "model.tflite"
    model.write_bytes(model.read_bytes() + b" ")
    register(registered, PARAMS, tracking.open_run(registered, PARAMS))
    version = tracking.find_version(registered, "graftline", "1")
    assert version is not None
    assert tracking.fetch_model(registered, version)


def test_a_note_that_cannot_be_read_is_no_leave_to_believe_the_registry(
    registered: Workspace,
) -> None:
    registered_path(registered).write_text("{}x")
    version = tracking.find_version(registered, "graftline", "1")
    assert version is not None
    with pytest.raises(MissingOutputError, match="is not what Graftline writes"):
        tracking.fetch_model(registered, version)
