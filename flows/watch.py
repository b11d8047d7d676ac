"""The watching flow: looks whether a source has changed, and says so by an event that retrains.

It is run by its deployment; see docs/events.md.
"""

from __future__ import annotations

from typing import Any

from graftline.orchestration.project_flow import project_flow
from tasks.watch import announce, sight, told


@project_flow(name="watch", flow_run_name="watch")
def watch(place: str | None = None, settle_s: float = 10.0, again_s: float = 3600.0) -> Any:
    """Looks at a place, and emits an event if it holds something else than before.

    Args:
        place: A folder, a file, a ``.dvc`` file, or an address that DVC can list
            (``remote://NAME/PATH``); null takes the source that ``params.yaml`` names.
        settle_s: Seconds between two looks at a place that has changed.
        again_s: Seconds after which a change is announced again that nothing was trained on.
    """
    seen = sight(place, settle_s, again_s)
    if seen.due:
        announce(seen)
    return told(seen)
