"""Which model is served, where it comes from, and how one takes another's place."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from graftline.core.records import Trained
from graftline.core.workspace import Workspace
from graftline.evaluation.predictor import Predictor
from graftline.inference.model_choice import FoundModel, find_model, names_a_folder
from graftline.inference.predict import open_predictor


@dataclass(frozen=True)
class ModelVersion:
    """What is told of a model with every answer.

    Args:
        name: Of the registered model, or the folder.
        version: Its number in the registry; None for a folder.
        weight_digest: Of its weights, as ``trained.json`` has it.
    """

    name: str
    version: str | None
    weight_digest: str

    @property
    def key(self) -> tuple[str, str]:
        """What tells it from another that may come into its place."""
        return self.name, self.version or self.weight_digest

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
        role: Why it was taken where nobody named one, in words.
    """

    def __init__(self, version: ModelVersion, predictor: Predictor, role: str = "") -> None:
        self.version = version
        self.predictor = predictor
        self.role = role

    @classmethod
    def load(cls, name: str, version: str | None, folder: Path, role: str = "") -> ServedModel:
        """Opens a model folder, and runs it once, so that no request pays for the first run.

        Raises:
            MissingOutputError: If there is no model in it.
        """
        predictor = open_predictor(Workspace(folder), folder)
        predictor.probabilities([np.zeros((predictor.size_px, predictor.size_px, 3), np.uint8)])
        return cls(ModelVersion(name, version, predictor.weight_digest), predictor, role)


class ModelSource(Protocol):
    """Where the model to serve is looked up."""

    @property
    def may_change(self) -> bool:
        """Whether another model may come into its place."""

    def key(self) -> tuple[str, str]:
        """What is to be served now, as :attr:`ModelVersion.key` tells it."""

    def load(self) -> ServedModel:
        """Loads what is to be served now."""


class NamedSource:
    """What ``--model`` names; see :func:`graftline.inference.model_choice.choose_model`.

    Args:
        workspace: Whose registry and parameters are used.
        which: None for the champion, and where there is none the last trained model.
    """

    def __init__(self, workspace: Workspace, which: str | None = None) -> None:
        self._workspace, self._which = workspace, which

    @property
    def may_change(self) -> bool:
        """A number names the same version for ever, and a folder is read once."""
        which = self._which
        return which is None or not (which.isdecimal() or names_a_folder(which))

    def key(self) -> tuple[str, str]:
        """What is to be served now, as :attr:`ModelVersion.key` tells it.

        Raises:
            MissingOutputError: If there is no such model.
            TrackingError: If the registry cannot be used.
        """
        found = self._found().found
        if isinstance(found, Path):
            record = Trained.read(found / Trained.file_name())
            return _name_of(found), record.weight_digest
        return found.name, found.version

    def load(self) -> ServedModel:
        """Fetches and opens what is to be served now.

        Raises:
            MissingOutputError: If there is no such model, or its files are lost.
            TrackingError: If the registry cannot be used.
        """
        model = self._found()
        folder = Path(model.fetched(self._workspace).folder)
        if isinstance(model.found, Path):
            return ServedModel.load(_name_of(folder), None, folder, model.role)
        return ServedModel.load(model.name, model.found.version, folder, model.role)

    def _found(self) -> FoundModel:
        return find_model(self._workspace, self._which)


def _name_of(folder: Path) -> str:
    # Clients need not know where it lies.
    return folder.resolve().name


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
