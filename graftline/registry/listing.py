"""``graftline models``: every version in the registry, with what became of it."""

from __future__ import annotations

import datetime
import json
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from graftline.core.params import read_params
from graftline.core.records import Record
from graftline.core.workspace import Workspace
from graftline.registry import tracking
from graftline.registry.promotions import LEFT_TAG, STATE_TAG, VERDICT_TAG, WHEN_TAG, receipt_of
from graftline.registry.tracking import CHAMPION, Version

_DIGEST_CHARACTERS = 12


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


def show_models(workspace: Workspace, *, as_json: bool) -> int:
    """Runs ``graftline models``.

    Returns:
        The exit code 0.
    """
    found = models(workspace)
    console = Console(highlight=False, soft_wrap=as_json)
    if as_json:
        text = json.dumps([one.model_dump(mode="json") for one in found], indent=2)
        console.print(text, markup=False)
    elif found:
        console.print(_table(found))
    else:
        console.print("No version is registered yet; python -m flows.train registers one.")
    return 0


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


def _table(found: Sequence[Model]) -> Table:
    from rich.markup import escape

    table = Table()
    table.add_column("version", justify="right")
    table.add_column("aliases", style="bold")
    table.add_column("accuracy", justify="right")
    table.add_column("verdict")
    table.add_column("when", no_wrap=True)
    table.add_column("weights", no_wrap=True)
    for one in found:
        table.add_row(
            one.version,
            "\n".join(escape(alias) for alias in sorted(one.aliases)),
            "" if one.test_accuracy is None else f"{one.test_accuracy:.2%}",
            escape(one.verdict),
            one.when[:16],
            (one.weight_digest or "")[:_DIGEST_CHARACTERS],
        )
    return table
