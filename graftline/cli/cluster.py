"""Shows ``graftline cluster``: a scheduler and workers on this machine, until Ctrl-C."""

from __future__ import annotations

import threading

from rich.console import Console

from graftline.compute.own_cluster import serving
from graftline.core.counts import counted
from graftline.core.processes import termination_as_interrupt
from graftline.core.workspace import Workspace

PORT = 8786


def keep_cluster(workspace: Workspace, *, workers: int = 2, port: int = PORT) -> int:
    """Runs ``graftline cluster``.

    Returns:
        The exit code: 0 once interrupted.

    Raises:
        ClusterError: If one is up already, or the port is taken.
        MissingPackageError: If Dask is not installed.
    """
    console = Console(highlight=False, soft_wrap=True)
    with termination_as_interrupt():
        try:
            with serving(workspace.root, workers, port) as told:
                console.print(f"cluster  {told.address}, {counted(workers, 'worker')}")
                console.print(
                    "use it   graftline run --once --set compute.engine=dask "
                    f"--set compute.address={told.address}"
                )
                console.print("Ctrl-C stops it; so does graftline down.")
                threading.Event().wait()
        except KeyboardInterrupt:
            console.print("stopped")
    return 0
