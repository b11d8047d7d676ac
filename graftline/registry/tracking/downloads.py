"""Runs by id, versions by number or alias, and the files of versions on this machine."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from filelock import FileLock

from graftline.core.errors import MissingOutputError, from_system
from graftline.core.files import replacing_directory, scratch_folder
from graftline.core.records import Trained
from graftline.core.workspace import LITERT_FILE, Workspace
from graftline.registry.tracking.own_versions import confirmed
from graftline.registry.tracking.registry import has_files_of
from graftline.registry.tracking.store import configure, open_client, reported
from graftline.registry.tracking.versions import ABSENT, FILE_TAG, Version, as_version

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient


@dataclass(frozen=True)
class PastRun:
    """What the history says of a run."""

    run_id: str
    name: str
    status: str
    tags: Mapping[str, str]
    metrics: Mapping[str, float]
    params: Mapping[str, str] = field(default_factory=dict)


def find_version(workspace: Workspace, name: str, which: str) -> Version | None:
    """A version of a registered model, or None if there is none.

    Args:
        workspace: Whose registry is asked.
        name: The registered model.
        which: A version's number, or an alias such as ``champion``.

    Raises:
        TrackingError: If the registry cannot be used.
    """
    from mlflow.exceptions import MlflowException

    store = configure(workspace)
    client, _ = open_client(store)
    with reported(store):
        try:
            if which.isdecimal():
                return as_version(client.get_model_version(name, which))
            number = client.get_model_version_by_alias(name, which).version
            # The answer to an alias leaves out the version's other aliases.
            return as_version(client.get_model_version(name, number))
        except MlflowException as error:
            if error.error_code in ABSENT:
                return None
            raise


def find_run(workspace: Workspace, run_id: str) -> PastRun | None:
    """A run, or None if there is none of this id.

    Raises:
        TrackingError: If the store cannot be used.
    """
    from mlflow.exceptions import MlflowException

    store = configure(workspace)
    client, _ = open_client(store)
    with reported(store):
        try:
            run = client.get_run(run_id)
        except MlflowException as error:
            if error.error_code in ABSENT:
                return None
            raise
    return PastRun(
        run_id=run.info.run_id,
        name=run.info.run_name or "",
        status=run.info.status,
        tags=dict(run.data.tags),
        metrics=dict(run.data.metrics),
        params=dict(run.data.params),
    )


def all_versions(workspace: Workspace, name: str) -> list[Version]:
    """Every version of a registered model, the newest first.

    Raises:
        TrackingError: If the registry cannot be used.
    """
    store = configure(workspace)
    client, _ = open_client(store)
    with reported(store):
        numbers: list[str] = []
        token = None
        while True:
            page = client.search_model_versions(f"name='{name}'", page_token=token)
            numbers += [as_version(one).version for one in page]
            token = page.token
            if not token:
                break
        # The search leaves the aliases out.
        numbers.sort(key=int, reverse=True)
        return [as_version(client.get_model_version(name, number)) for number in numbers]


def fetch_model(workspace: Workspace, version: Version) -> Path:
    """The folder with a version's model, as ``models/trained`` has it; fetched at first use.

    It lies in ``var/models/NAME/VERSION``. Whatever is there is checked by its SHA-256, so that a
    file that was changed is fetched again; see :mod:`graftline.registry.tracking.own_versions` for
    whose word on it is taken.

    Args:
        workspace: Whose registry and ``var/`` are used.
        version: Of a registered model.

    Returns:
        A folder with ``model.tflite`` and ``trained.json``, for
        :class:`graftline.evaluation.predictor.Predictor`.

    Raises:
        MissingOutputError: If the registry no longer has the version's files as they were, or it is
            this checkout's own and the version was not registered here.
        TrackingError: If the registry cannot be used.
    """
    folder = workspace.var / "models" / quote(version.name, safe="") / version.version
    folder.parent.mkdir(parents=True, exist_ok=True)
    store = configure(workspace)
    client, _ = open_client(store)
    with FileLock(folder.parent / f"{version.version}.lock"), reported(store):
        version = confirmed(store, client, version)
        if not has_files_of(folder, version):
            open_client(store, files=True)
            _fetch(client, version, folder)
    return folder


def _fetch(client: MlflowClient, version: Version, folder: Path) -> None:
    from mlflow.artifacts import download_artifacts
    from mlflow.exceptions import MlflowException

    uri = client.get_model_version_download_uri(version.name, version.version)
    with scratch_folder() as temporary:
        try:
            place = Path(download_artifacts(artifact_uri=uri, dst_path=str(temporary)))
        except (MlflowException, OSError) as error:
            # A full disk, or a folder that cannot be written, says nothing about the version.
            raise from_system(error, temporary) or _lost(version, uri) from error
        found = next(place.rglob(Trained.file_name()), None)
        if found is None or not has_files_of(found.parent, version):
            raise _lost(version, uri)
        with replacing_directory(folder) as new:
            # A link in a store is copied as the link that it is, not as what it leads to.
            shutil.copytree(found.parent, new, symlinks=True, dirs_exist_ok=True)


def _lost(version: Version, uri: str) -> MissingOutputError:
    return MissingOutputError(
        f"the files of {version.name} version {version.version} are not those that were registered",
        where=uri,
        allowed=f"{LITERT_FILE} with the SHA-256 {version.tags.get(FILE_TAG)}, and "
        f"{Trained.file_name()}",
        fix="put the files back from a backup, or register the model again: python -m flows.train. "
        "If the registry itself was made anew since: rm var/mlflow/registered.json",
    )
