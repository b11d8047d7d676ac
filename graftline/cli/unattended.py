"""What a schedule needs by hand: ``graftline trigger`` and ``graftline abandoned``."""

from __future__ import annotations

from rich.console import Console

from graftline.core.workspace import Workspace


def set_trigger(workspace: Workspace, deployment: str | None, remove: bool) -> int:
    """Runs ``graftline trigger``.

    Returns:
        The exit code 0.
    """
    from graftline.orchestration.trigger import (
        deployment_of,
        ensure_trigger,
        reach_server,
        remove_trigger,
    )

    console = Console(highlight=False, soft_wrap=True)
    reach_server(workspace)
    if remove:
        removed = remove_trigger(workspace)
        console.print("removed" if removed else "there was no automation of this checkout")
        return 0
    wanted = deployment or deployment_of(workspace)
    name = ensure_trigger(workspace, wanted)
    console.print(f"{wanted} runs by itself: {name}", markup=False)
    return 0


def close_abandoned_runs(workspace: Workspace) -> int:
    """Runs ``graftline abandoned``.

    Returns:
        The exit code 0.
    """
    from graftline.orchestration.abandoned import close_by_hand, told

    console = Console(highlight=False, soft_wrap=True)
    closed = close_by_hand(workspace)
    for name in closed:
        console.print(told(name), markup=False)
    if not closed:
        console.print("no flow run is without its process")
    return 0
