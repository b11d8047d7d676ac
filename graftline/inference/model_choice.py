"""Which model predicts: a version in the registry by number or alias, or a folder."""

from __future__ import annotations

import os
from pathlib import Path

from graftline.core.errors import MissingOutputError
from graftline.core.records import Record, Trained
from graftline.core.workspace import Workspace
from graftline.inference.predict import checked_model
from graftline.registry import tracking
from graftline.registry.tracking import Version

DEFAULT_MODEL = "champion"


class ChosenModel(Record):
    """A model whose files are on this machine."""

    folder: str
    """With ``model.tflite`` and ``trained.json``."""
    name: str
    """In the registry; of a folder, the folder."""
    version: str
    """In the registry; of a folder, the digest of the weights."""
    weight_digest: str

    def __str__(self) -> str:
        return f"{self.name} version {self.version}" if self.version.isdecimal() else self.name


def choose_model(workspace: Workspace, registered_name: str, which: str) -> ChosenModel:
    """Finds a model and has its files here.

    Args:
        workspace: Whose registry and ``var/`` are used.
        registered_name: The registered model's name.
        which: A version's number, an alias such as ``champion``, or a model's folder.

    Raises:
        MissingOutputError: If there is no such version or folder, or its files are lost.
        TrackingError: If the registry cannot be used.
    """
    if names_a_folder(which):
        folder = checked_model(Path(which))
        digest = Trained.read(folder / Trained.file_name()).weight_digest
        return ChosenModel(folder=str(folder), name=which, version=digest, weight_digest=digest)
    version = version_named(workspace, registered_name, which)
    folder = tracking.fetch_model(workspace, version)
    digest = Trained.read(folder / Trained.file_name()).weight_digest
    return ChosenModel(
        folder=str(folder), name=version.name, version=version.version, weight_digest=digest
    )


def names_a_folder(which: str) -> bool:
    """Whether ``--model`` names a folder: one that holds a model, or any path with a slash."""
    return os.sep in which or (Path(which) / Trained.file_name()).is_file()


def version_named(workspace: Workspace, name: str, which: str) -> Version:
    """A version of a registered model, by its number or an alias.

    Raises:
        MissingOutputError: If there is no such version.
        TrackingError: If the registry cannot be used.
    """
    version = tracking.find_version(workspace, name, which)
    if version is None:
        raise _not_there(workspace, name, which)
    return version


def _not_there(workspace: Workspace, name: str, which: str) -> MissingOutputError:
    versions = tracking.all_versions(workspace, name)
    what, kind = (f"version {which}", "number") if which.isdecimal() else (which, "alias")
    lacking = f"no version with the {kind} {which}"
    if not versions:
        return MissingOutputError(
            f"there is no {what} of {name}: nothing has been registered yet, so {lacking}",
            where="the model registry",
            fix="graftline run registers a model, which is --model challenger; or name a model's "
            "folder: --model models/trained",
        )
    aliases = sorted({alias for version in versions for alias in version.aliases})
    numbers = ", ".join(version.version for version in versions[:5])
    fix = f"name another: --model {aliases[0] if aliases else versions[0].version}"
    if which == DEFAULT_MODEL:
        fix += ", or promote a version first"
    return MissingOutputError(
        f"there is no {what} of {name} in the registry: it has {lacking}",
        where="the model registry",
        allowed=f"{', '.join([*aliases, numbers])}, or a model's folder",
        fix=fix,
    )
