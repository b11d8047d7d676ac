"""Shows ``graftline mend``: what of a failing disk was taken away, to be made anew."""

from __future__ import annotations

from rich.console import Console

from graftline.core.workspace import Workspace
from graftline.operations.mend import mend


def show_mended(workspace: Workspace) -> int:
    """Runs ``graftline mend``.

    Returns:
        The exit code 0.
    """
    outputs, objects = mend(workspace)
    console = Console(soft_wrap=True, highlight=False)
    for path in outputs:
        console.print(f"removed {path.relative_to(workspace.root)}, damaged", markup=False)
    for path in objects:
        console.print(f"removed {path} of DVC's cache, damaged", markup=False)
    if outputs or objects:
        console.print(
            "run again (python -m flows.train, or dvc repro): what was removed comes back from "
            "DVC's cache, or is made anew; and have a look at the disk"
        )
    else:
        console.print("no output and no object of DVC's cache is damaged")
    return 0
