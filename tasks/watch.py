"""Tasks ``sight`` and ``announce``: look at a place, and tell Prefect by an event if it changed."""

from __future__ import annotations

import time
from typing import Any
from uuid import UUID

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.events import emit_event
from prefect.events.filters import EventFilter, EventIDFilter
from prefect.logging import get_run_logger
from prefect.states import Completed

from graftline.core.errors import ServerError
from graftline.core.files import sha256_record
from graftline.core.workspace import Workspace
from graftline.operations import source_watch
from graftline.operations.source_watch import Sighting
from graftline.orchestration.retry import DELAYS_S
from graftline.orchestration.trigger import CHECKOUT_LABEL, EVENT

RESOURCE = "graftline.source"
_CONFIRM_LIMIT_S = 30.0
_POLL_S = 0.5


@task(name="sight", task_run_name="sight", cache_policy=NO_CACHE)
def sight(place: str | None, settle_s: float, again_s: float) -> Sighting:
    """Looks at the place, and writes down what is settled and new."""
    workspace = Workspace.here()
    seen = source_watch.sight(workspace, place, settle_s=settle_s, again_s=again_s)
    if seen.settled and seen.before is None and not seen.due:
        # From here on it is known.
        source_watch.note_announced(workspace, seen)
    get_run_logger().info(str(seen))
    return seen


@task(
    name="announce",
    task_run_name="announce",
    cache_policy=NO_CACHE,
    retries=len(DELAYS_S),
    retry_delay_seconds=list(DELAYS_S),
)
def announce(seen: Sighting) -> None:
    """Emits the event, and makes sure that the server has it before that is written down.

    Raises:
        ServerError: If the server does not have it; the next look announces it again.
    """
    workspace = Workspace.here()
    event = emit_event(
        EVENT,
        resource={
            "prefect.resource.id": f"{RESOURCE}.{sha256_record(seen.place)[:16]}",
            "prefect.resource.name": seen.place,
            CHECKOUT_LABEL: str(workspace.root),
        },
        payload={"digest": seen.digest, "before": seen.before},
    )
    if event is None or not _arrived(event.id):
        raise ServerError(
            "the Prefect server has not taken the event that tells of a changed source",
            fix="see whether the server is well; the next look announces the change again",
        )
    source_watch.note_announced(workspace, seen)


def told(seen: Sighting) -> Any:
    """How the flow run ends: Completed, with a message that says what was seen."""
    return Completed(message=str(seen), data=None)


def _arrived(event_id: UUID) -> bool:
    wanted = EventFilter(id=EventIDFilter(id=[event_id]))
    until = time.monotonic() + _CONFIRM_LIMIT_S
    with get_client(sync_client=True) as client:
        while time.monotonic() < until:
            if client.read_events(filter=wanted, limit=1).events:
                return True
            time.sleep(_POLL_S)
    return False
