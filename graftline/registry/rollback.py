"""``graftline rollback``: the former champion comes back, with a receipt.

As a promotion, a rollback is written down as pending before the alias moves. One that was killed
is finished by the next, which then goes no further back.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import ClassVar

from pydantic import ValidationError

from graftline.core.errors import RollbackError, TrackingError
from graftline.core.files import scratch_folder
from graftline.core.params import read_params
from graftline.core.processes import own_command
from graftline.core.records import Record
from graftline.core.workspace import Workspace
from graftline.registry import tracking
from graftline.registry.promotions import LEFT_TAG, finish_pending, now, who
from graftline.registry.tracking import CHAMPION, Version

RECEIPT_TAG = "graftline.rollback"
STATE_TAG = "graftline.rollback_state"

_log = logging.getLogger(__name__)


class Rollback(Record):
    """``reports/rollback.json``: the receipt."""

    lies_at: ClassVar[str] = "reports/rollback.json"

    model_name: str
    from_version: str
    """The champion that was taken back."""
    to_version: str
    """The former champion, which is the champion again."""
    reason: str
    """As the user gave it; may be empty."""
    who: str
    command: str
    when: str
    """Local time, to the second, with its offset."""


def roll_back(workspace: Workspace, reason: str = "") -> tuple[Rollback, bool]:
    """Makes the former champion the champion again.

    The version that is taken back gets the tag ``graftline.rolled_back``, with which it is not
    promoted again.

    Args:
        workspace: Whose registry is used; ``register.model_name`` in its parameters says which
            model.
        reason: For the receipt.

    Returns:
        The receipt, and whether it is that of an earlier call that was killed.

    Raises:
        RollbackError: If there is no champion, or none before it.
        MissingOutputError: If the former champion's files are lost.
        TrackingError: If the registry cannot be used.
    """
    name = read_params(workspace.params_file).register_.model_name
    with tracking.champion_lock(workspace):
        versions = tracking.all_versions(workspace, name)
        champion = next((one for one in versions if CHAMPION in one.aliases), None)
        if champion is None:
            raise RollbackError(
                f"{name} has no champion, so there is nothing to roll back",
                where=tracking.configure(workspace).shown,
                fix="run python -m flows.train, which promotes a model that passes the gate",
            )
        if unfinished := _unfinished(versions, champion):
            left, rollback = unfinished
        else:
            left = champion
            _forget_overtaken(workspace, versions)
            former = _former(workspace, champion, versions)
            # The version that takes its place must be there, whole.
            tracking.fetch_model(workspace, former)
            rollback = Rollback(
                model_name=name,
                from_version=champion.version,
                to_version=former.version,
                reason=reason,
                who=who(),
                command=own_command(),
                when=now(),
            )
        _carry_out(workspace, rollback, left, champion)
        _tell_run(workspace, rollback, versions)
        return rollback, unfinished is not None


def _unfinished(versions: Sequence[Version], champion: Version) -> tuple[Version, Rollback] | None:
    """A rollback that was begun and not finished, if it still fits what the champion is."""
    for version in versions:
        if version.tags.get(STATE_TAG) != "pending":
            continue
        try:
            rollback = Rollback.model_validate_json(version.tags.get(RECEIPT_TAG, ""))
        except ValidationError:
            continue
        if champion.version in (rollback.from_version, rollback.to_version):
            return version, rollback
    return None


def _forget_overtaken(workspace: Workspace, versions: Sequence[Version]) -> None:
    """Marks as done what was interrupted so long ago that others have been champions since."""
    for version in versions:
        if version.tags.get(STATE_TAG) == "pending":
            tracking.tag_version(workspace, version, {STATE_TAG: "done"})


def _former(workspace: Workspace, champion: Version, versions: Sequence[Version]) -> Version:
    receipt = finish_pending(workspace, champion)
    number, where = champion.version, tracking.configure(workspace).shown
    if receipt is None or not receipt.promoted:
        raise RollbackError(
            f"{champion.name} version {number} became the champion without a receipt of Graftline, "
            "so the one before it is not known",
            where=where,
            fix="set the alias champion by hand: graftline ui, Models; graftline models lists the "
            "versions",
        )
    if receipt.champion_version is None:
        raise RollbackError(
            f"{champion.name} version {number} was the first champion; there is none before it",
            where=where,
            fix="train and promote another, or take the alias champion away by hand: graftline ui, "
            "Models",
        )
    for version in versions:
        if version.version == receipt.champion_version:
            return version
    raise RollbackError(
        f"the former champion, version {receipt.champion_version}, is not in the registry any more",
        where=where,
        fix="set the alias champion by hand: graftline ui, Models; graftline models lists the "
        "versions",
    )


def _carry_out(workspace: Workspace, rollback: Rollback, left: Version, champion: Version) -> None:
    tracking.tag_version(
        workspace,
        left,
        {RECEIPT_TAG: rollback.model_dump_json(), STATE_TAG: "pending", LEFT_TAG: rollback.when},
    )
    if champion.version != rollback.to_version:
        tracking.move_champion(
            workspace, rollback.model_name, expected=champion.version, version=rollback.to_version
        )
    rollback.write(workspace.rollback)
    tracking.tag_version(workspace, left, {STATE_TAG: "done"})


def _tell_run(workspace: Workspace, rollback: Rollback, versions: Sequence[Version]) -> None:
    """Leaves the receipt with the run of each version that it is about."""
    concerned = (rollback.from_version, rollback.to_version)
    with scratch_folder() as folder:
        path = folder / rollback.file_name()
        rollback.write(path)
        for version in versions:
            if version.version not in concerned:
                continue
            text = "rolled back" if version.version == rollback.from_version else "champion again"
            try:
                tracking.log_receipt(
                    workspace, version.run_id, [path], {}, {"graftline.verdict": text}
                )
            except TrackingError as error:
                # In an emergency a deleted run is no reason to fail: the registry has the receipt.
                _log.warning("run %s was not told: %s", version.run_id, error)
