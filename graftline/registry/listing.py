"""``graftline models``: every version in the registry, with what became of it."""

from __future__ import annotations

import datetime

from graftline.core.params import read_params
from graftline.core.records import Record
from graftline.core.workspace import Workspace
from graftline.registry import tracking
from graftline.registry.promotions import LEFT_TAG, STATE_TAG, VERDICT_TAG, WHEN_TAG, receipt_of
from graftline.registry.tracking import CHAMPION, Version


class Model(Record):
    """One version."""

    version: str
    aliases: tuple[str, ...]
    test_accuracy: float | None
    verdict: str
    """In two or three words."""
    reason: str
    """Of the verdict; empty without one."""
    when: str
    """Of the verdict, or of the registration where there is none; local time."""
    weight_digest: str | None
    run_id: str


def models(workspace: Workspace) -> list[Model]:
    """The versions of ``register.model_name``, the newest first.

    Raises:
        TrackingError: If the registry cannot be used.
    """
    name = read_params(workspace.params_file).register_.model_name
    return [_model(version) for version in tracking.all_versions(workspace, name)]


def _model(version: Version) -> Model:
    receipt = receipt_of(version)
    accuracy = version.tags.get("graftline.test_accuracy")
    registered = datetime.datetime.fromtimestamp(version.created_s).astimezone()
    return Model(
        version=version.version,
        aliases=version.aliases,
        test_accuracy=None if accuracy is None else float(accuracy),
        verdict=_verdict(version),
        reason="" if receipt is None else receipt.reason,
        when=version.tags.get(LEFT_TAG)
        or version.tags.get(WHEN_TAG)
        or registered.isoformat(" ", "seconds"),
        weight_digest=version.weight_digest,
        run_id=version.run_id,
    )


def _verdict(version: Version) -> str:
    if LEFT_TAG in version.tags:
        # The tag comes before the alias moves, and a process may be killed in between.
        return "rollback unfinished" if CHAMPION in version.aliases else "rolled back"
    if version.tags.get(STATE_TAG) == "pending":
        return "promotion unfinished"
    return version.tags.get(VERDICT_TAG, "none")
