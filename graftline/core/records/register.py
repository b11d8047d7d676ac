"""The record of the step ``register``."""

from __future__ import annotations

from typing import ClassVar

from graftline.core.records import Record


class Registered(Record):
    """``var/registered.json``: the receipt."""

    lies_at: ClassVar[str] = "var/registered.json"

    model_name: str
    version: str
    alias: str
    run_id: str
    """The run that the version came from."""
    model_uri: str
    """For ``mlflow.pyfunc.load_model``."""
    already_registered: bool
    """Whether these weights were a version before."""

    def __str__(self) -> str:
        return f"{self.model_name} version {self.version}, alias {self.alias}"
