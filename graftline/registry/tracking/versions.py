"""A version in the registry, and the tags that say what it holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from graftline.core.errors import TrackingError

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

_SHOWN_CHARACTERS = 80
ABSENT = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")
"""How MLflow says that there is no such thing; to it, an alias that nobody has is invalid."""
DATASET_TAG = "graftline.dataset_digest"
"""Of a version: the digest of the data that it was trained on."""
DIGEST_TAG = "graftline.weight_digest"
FILE_TAG = "graftline.litert_sha256"
RECORD_TAG = "graftline.trained_sha256"
"""Of ``trained.json``, which says what the model's outputs are called."""
DIGEST_TAGS = (DIGEST_TAG, FILE_TAG, RECORD_TAG)
"""What of a version's tags says which files it has."""


@dataclass(frozen=True)
class Version:
    """A version in the registry."""

    name: str
    version: str
    aliases: tuple[str, ...]
    run_id: str
    source: str
    tags: Mapping[str, str]
    created_s: float = 0.0
    """When it was registered, in seconds since 1970."""

    @property
    def weight_digest(self) -> str | None:
        """Of the model's weights, as in ``trained.json``."""
        return self.tags.get(DIGEST_TAG)


def as_version(entity: ModelVersion) -> Version:
    """What the registry says of a version, in our words.

    Raises:
        TrackingError: If its number is none; folders are named by it.
    """
    number = str(entity.version)
    if not (number.isascii() and number.isdecimal()):
        raise TrackingError(
            f"the registry says that {entity.name} has a version {number[:_SHOWN_CHARACTERS]!r}",
            allowed="a number",
            fix="look at the server that MLFLOW_TRACKING_URI names: it is none of MLflow's",
        )
    return Version(
        name=entity.name,
        version=number,
        aliases=tuple(entity.aliases),
        run_id=entity.run_id or "",
        source=entity.source or "",
        tags=dict(entity.tags),
        created_s=(entity.creation_timestamp or 0) / 1000,
    )
