"""How many cores are this process's: by the affinity mask and the CPU quota of its container.

The one place that counts them. A container often shows all cores of its host and may use the time
of a few: as many threads as cores are shown would then stand in each other's way.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from graftline.core.params import read_params
from graftline.core.workspace import Workspace

VARIABLE = "GRAFTLINE_THREADS"
_CGROUPS = Path("/proc/self/cgroup")
_MOUNTED = Path("/sys/fs/cgroup")
_chosen: list[int | None] = [None]
"""What is in force, the innermost last: of the whole process, its threads too."""


@contextmanager
def using_workers(workers: int | None) -> Iterator[None]:
    """Has the block use as many cores as ``compute.workers`` says; None leaves it to the system."""
    _chosen.append(workers)
    try:
        yield
    finally:
        _chosen.pop()


def workers_in(workspace: Workspace) -> int | None:
    """What ``compute.workers`` is in a folder; None where that has no ``params.yaml``.

    Raises:
        ParamsError: If that file is not valid.
    """
    if not workspace.params_file.exists():
        return None
    return read_params(workspace.params_file).compute.workers


def available_cores() -> int:
    """How many threads are to compute side by side in this process.

    ``compute.workers`` comes first, then ``GRAFTLINE_THREADS``, then what the system allows.
    """
    if (chosen := _chosen[-1]) is not None:
        return chosen
    wanted = os.environ.get(VARIABLE, "")
    if wanted.isdigit() and int(wanted) > 0:
        return int(wanted)
    return allowed_cores()


def allowed_cores(cgroups: Path = _CGROUPS, mounted: Path = _MOUNTED) -> int:
    """What the system allows: the fewest of the affinity mask and the quotas, at least one.

    A part of a core counts as one: two threads that share a core and a half use all of it.

    Args:
        cgroups: The file that lists this process's control groups.
        mounted: Where control groups are mounted.
    """
    if hasattr(os, "sched_getaffinity"):
        mask = len(os.sched_getaffinity(0))
    else:
        mask = os.cpu_count() or 1
    quotas = [math.ceil(quota) for quota in _quotas(cgroups, mounted)]
    return max(1, min([mask, *quotas]))


def _quotas(cgroups: Path, mounted: Path) -> Iterator[float]:
    """The CPU quota of each control group that this process is in, in cores."""
    try:
        lines = cgroups.read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        if not controllers:
            hierarchies = [mounted, mounted / "unified"]
        elif "cpu" in controllers.split(","):
            hierarchies = [mounted / controllers, mounted / "cpu"]
        else:
            continue
        for folder in hierarchies:
            # A group's parents bind it too. In a container the group may be named as the host
            # names it, and then only the hierarchy's root is there.
            path = folder / group.strip("/")
            while path.is_relative_to(folder):
                yield from _quota(path)
                path = path.parent


def _quota(group: Path) -> Iterator[float]:
    try:
        # Version 2: "200000 100000", or "max 100000" where there is no limit.
        quota, _, period = (group / "cpu.max").read_text(encoding="ascii").strip().partition(" ")
        if quota != "max":
            yield int(quota) / int(period or 100_000)
    except (OSError, ValueError, ZeroDivisionError):
        pass
    try:
        # Version 1: -1 where there is no limit.
        limit = int((group / "cpu.cfs_quota_us").read_text(encoding="ascii"))
        if limit > 0:
            yield limit / int((group / "cpu.cfs_period_us").read_text(encoding="ascii"))
    except (OSError, ValueError, ZeroDivisionError):
        pass
