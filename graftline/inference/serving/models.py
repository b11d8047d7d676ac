"""Which model is served, where it comes from, and how one takes another's place."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from graftline.core.workspace import Workspace
from graftline.evaluation.predictor import Predictor
from graftline.inference.predict import open_predictor

if TYPE_CHECKING:
    from graftline.registry.tracking import Version


@dataclass(frozen=True)
class ModelVersion:
    """What is told of a model with every answer.

    Args:
        name: Of the registered model, or of the folder.
        version: Its number in the registry; None for a folder.
        weight_digest: Of its weights, as ``trained.json`` has it.
    """

    name: str
    version: str | None
    weight_digest: str

    def __str__(self) -> str:
        return f"folder {self.name}" if self.version is None else f"{self.name} {self.version}"

    def to_record(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


class ServedModel:
    """A loaded model with what is told of it.

    Args:
        version: Which one it is.
        predictor: Its predictor, warm.
    """

    def __init__(self, version: ModelVersion, predictor: Predictor) -> None:
        self.version = version
        self.predictor = predictor

    @classmethod
    def load(cls, name: str, version: str | None, folder: Path) -> ServedModel:
        """Opens a model folder, and runs it once, so that no request pays for the first run.

        Raises:
            MissingOutputError: If there is no model in it.
        """
        predictor = open_predictor(Workspace(folder), folder)
        predictor.probabilities([np.zeros((predictor.size_px, predictor.size_px, 3), np.uint8)])
        return cls(ModelVersion(name, version, predictor.weight_digest), predictor)


class ModelSource(Protocol):
    """Where the model to serve is looked up."""

    @property
    def may_change(self) -> bool:
        """Whether another model may come into its place."""

    def __str__(self) -> str:
        """What was asked for, in words."""

    def version(self) -> tuple[str, str] | None:
        """What is to be served now, to be compared; None for a folder, which stays what it is."""

    def load(self) -> ServedModel:
        """Loads what is to be served now."""


class RegistrySource:
    """A version or an alias of a registered model.

    Args:
        workspace: Whose registry is asked.
        name: The registered model.
        which: A version's number, or an alias.
    """

    def __init__(self, workspace: Workspace, name: str, which: str) -> None:
        self._workspace, self._name, self._which = workspace, name, which

    @property
    def may_change(self) -> bool:
        """A number names the same version for ever, an alias does not."""
        return not self._which.isdecimal()

    def __str__(self) -> str:
        return f"{self._name}@{self._which}" if self.may_change else f"{self._name}/{self._which}"

    def version(self) -> tuple[str, str]:
        """The registered model's name and the number of what is to be served now.

        Raises:
            MissingOutputError: If there is no such version.
            TrackingError: If the registry cannot be used.
        """
        found = self._found()
        return found.name, found.version

    def load(self) -> ServedModel:
        """Fetches and opens what is to be served now.

        Raises:
            MissingOutputError: If there is no such version, or its files are lost.
            TrackingError: If the registry cannot be used.
        """
        from graftline.registry import tracking

        found = self._found()
        return ServedModel.load(
            found.name, found.version, tracking.fetch_model(self._workspace, found)
        )

    def _found(self) -> Version:
        from graftline.inference.model_choice import version_named

        return version_named(self._workspace, self._name, self._which)


class FolderSource:
    """A model folder, as ``models/trained`` is one.

    Args:
        folder: With ``model.tflite`` and ``trained.json``.
    """

    may_change = False

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __str__(self) -> str:
        return str(self._folder)

    def version(self) -> None:
        """A folder is read once."""

    def load(self) -> ServedModel:
        """Opens the folder.

        Raises:
            MissingOutputError: If there is no model in it.
        """
        return ServedModel.load(self._folder.resolve().name, None, self._folder)


def source_of(workspace: Workspace, asked: str) -> ModelSource:
    """What ``--model`` names.

    Args:
        workspace: Whose registry and parameters are used.
        asked: A version's number, an alias, or a folder: one that holds a model, or any path with
            a slash.
    """
    from graftline.core.params import read_params
    from graftline.inference.model_choice import names_a_folder

    if names_a_folder(asked):
        return FolderSource(Path(asked))
    name = read_params(workspace.params_file).register_.model_name
    return RegistrySource(workspace, name, asked)


class ModelSlot:
    """The one place of the model that answers; a new one can come into it at any time.

    A request that has begun with a model ends with it. The old one is closed by its last user.

    Args:
        model: The first one.
    """

    def __init__(self, model: ServedModel) -> None:
        self._lock = threading.Lock()
        self._model = model
        self._users: dict[ServedModel, int] = {model: 0}

    @property
    def model(self) -> ServedModel:
        """The one that answers what comes now."""
        return self._model

    @contextmanager
    def taken(self) -> Iterator[ServedModel]:
        """The model, which stays open for as long as the block runs."""
        with self._lock:
            model = self._model
            self._users[model] += 1
        try:
            yield model
        finally:
            with self._lock:
                self._users[model] -= 1
            self._close_unused()

    def put(self, model: ServedModel) -> None:
        """Lets another model answer from now on."""
        with self._lock:
            self._users[model] = 0
            self._model = model
        self._close_unused()

    def _close_unused(self) -> None:
        with self._lock:
            unused = [
                one for one, users in self._users.items() if not users and one is not self._model
            ]
            for one in unused:
                del self._users[one]
        for one in unused:
            one.predictor.close()

    def close(self) -> None:
        """Closes the model; nobody uses it any more."""
        self._model.predictor.close()
