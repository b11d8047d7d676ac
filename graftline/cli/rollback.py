"""Shows ``graftline rollback``: the former champion, back again."""

from __future__ import annotations

from rich.console import Console

from graftline.core.workspace import Workspace
from graftline.registry.promotions import LEFT_TAG
from graftline.registry.rollback import roll_back


def show_rollback(workspace: Workspace, reason: str) -> int:
    """Runs ``graftline rollback``.

    Returns:
        The exit code 0.
    """
    rollback, finished = roll_back(workspace, reason)
    console = Console(highlight=False, soft_wrap=True)
    if finished:
        console.print(f"An earlier rollback, of {rollback.when}, had been interrupted; it is done.")
    for line in (
        f"{rollback.model_name} version {rollback.to_version} is the champion again.",
        f"Version {rollback.from_version} was taken back, and is not promoted again: its tag "
        f"{LEFT_TAG} keeps it out.",
        f"The receipt is {workspace.rollback.relative_to(workspace.root)}; it stands in the "
        "registry too. graftline models shows all versions.",
    ):
        console.print(line, markup=False)
    return 0
