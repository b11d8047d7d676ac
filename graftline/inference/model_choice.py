"""Which model predicts, by one rule at every door: the champion, else the last trained model.

``--model`` names another one: a version's number, an alias, or a model's folder.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field

from graftline.core.errors import MissingOutputError
from graftline.core.params import read_params
from graftline.core.params.register import RegisterParams
from graftline.core.records import Record, Trained
from graftline.core.workspace import Workspace
from graftline.inference.predict import checked_model, no_model
from graftline.registry import tracking
from graftline.registry.tracking import CHAMPION, Version


class ChosenModel(Record):
    """A model whose files are on this machine."""

    folder: str
    """With ``model.tflite`` and ``trained.json``."""
    name: str
    """In the registry; of a folder, the folder."""
    version: str
    """In the registry; of a folder, the digest of the weights."""
    weight_digest: str
    role: str = Field(default="", exclude=True)
    """Why it was taken where nobody named one, in words."""

    def __str__(self) -> str:
        told = f"{self.name} version {self.version}" if self.version.isdecimal() else self.name
        return f"{told}, {self.role}" if self.role else told

    @property
    def introduction(self) -> str:
        """The first line of what is printed about its answers."""
        return f"model: {self}; weights {self.weight_digest[:12]}"


@dataclass(frozen=True)
class FoundModel:
    """A model that was found, and whose files have not been fetched yet.

    Args:
        found: A version of the registry, or a folder.
        name: See :class:`ChosenModel`.
        role: See :class:`ChosenModel`.
    """

    found: Version | Path
    name: str
    role: str = ""

    def fetched(self, workspace: Workspace) -> ChosenModel:
        """Has its files here.

        Raises:
            MissingOutputError: If they are lost, or the folder holds no model.
            TrackingError: If the registry cannot be used.
        """
        if isinstance(self.found, Path):
            folder, number = checked_model(self.found), None
        else:
            folder, number = tracking.fetch_model(workspace, self.found), self.found.version
        digest = Trained.read(folder / Trained.file_name()).weight_digest
        return ChosenModel(
            folder=str(folder),
            name=self.name,
            version=number or digest,
            weight_digest=digest,
            role=self.role,
        )


def choose_model(
    workspace: Workspace, which: str | None = None, name: str | None = None
) -> ChosenModel:
    """Finds a model and has its files here.

    Args:
        workspace: Whose registry and ``var/`` are used.
        which: A version's number, an alias such as ``challenger``, or a model's folder; by default
            the champion, and where there is none the last trained model.
        name: The registered model's; by default ``register.model_name``.

    Raises:
        MissingOutputError: If there is no such model, or its files are lost.
        ParamsError: If the name is needed, and ``params.yaml`` is not valid.
        TrackingError: If the registry cannot be used.
    """
    return find_model(workspace, which, name).fetched(workspace)


def find_model(
    workspace: Workspace,
    which: str | None = None,
    name: str | None = None,
    option: str = "--model ",
) -> FoundModel:
    """Finds what :func:`choose_model` would take; no file of it is fetched.

    Args:
        workspace: See :func:`choose_model`.
        which: See :func:`choose_model`.
        name: See :func:`choose_model`.
        option: What stands before a model's name on the command line, for the errors.

    Raises:
        MissingOutputError: If there is no such version, or nobody has trained a model yet.
        ParamsError: If the name is needed, and ``params.yaml`` is not valid.
        TrackingError: If the registry cannot be used.
    """
    if which is not None and names_a_folder(which):
        return FoundModel(Path(which), which)
    name = name or _registered_name(workspace)
    if which is None:
        return _by_default(workspace, name, option)
    version = tracking.find_version(workspace, name, which)
    if version is None:
        raise _not_there(workspace, name, which, option)
    return FoundModel(version, version.name)


def names_a_folder(which: str) -> bool:
    """Whether ``--model`` names a folder: one that holds a model, or any path with a slash."""
    return os.sep in which or (Path(which) / Trained.file_name()).is_file()


def _registered_name(workspace: Workspace) -> str:
    # Beside a model that was brought along alone there are no parameters.
    if not workspace.params_file.exists():
        return RegisterParams().model_name
    return read_params(workspace.params_file).register_.model_name


def _by_default(workspace: Workspace, name: str, option: str) -> FoundModel:
    # Opening a history takes seconds, and makes one where there is none.
    registry = tracking.store_exists(workspace)
    if registry and (champion := tracking.find_version(workspace, name, CHAMPION)):
        return FoundModel(champion, champion.name, "the champion")
    if Trained.path_in(workspace).is_file():
        return FoundModel(
            workspace.trained,
            workspace.trained.relative_to(workspace.root).as_posix(),
            f"the last trained model, as {name} has no champion",
        )
    if registry and tracking.all_versions(workspace, name):
        # Another machine's, one of which can be named.
        raise _not_there(workspace, name, CHAMPION, option)
    raise no_model(f"{name} has no champion, and no model has been trained yet", workspace.trained)


def _not_there(workspace: Workspace, name: str, which: str, option: str) -> MissingOutputError:
    versions = tracking.all_versions(workspace, name)
    what, kind = (f"version {which}", "number") if which.isdecimal() else (which, "alias")
    lacking = f"no version with the {kind} {which}"
    if not versions:
        return MissingOutputError(
            f"there is no {what} of {name}: nothing has been registered yet, so {lacking}",
            where="the model registry",
            fix=f"graftline run registers a model, which is {option}challenger; or name a model's "
            f"folder: {option}models/trained",
        )
    aliases = sorted({alias for version in versions for alias in version.aliases})
    numbers = ", ".join(version.version for version in versions[:5])
    fix = f"name another: {option}{aliases[0] if aliases else versions[0].version}"
    if which == CHAMPION:
        fix += ", or promote a version first"
    return MissingOutputError(
        f"there is no {what} of {name} in the registry: it has {lacking}",
        where="the model registry",
        allowed=f"{', '.join([*aliases, numbers])}, or a model's folder",
        fix=fix,
    )
