from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from graftline import tracking
from graftline.errors import MissingOutputError
from graftline.register import register
from graftline.workspace import Workspace
from tests import finished, histories

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
