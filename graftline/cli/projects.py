"""Makes a project, runs it, keeps it: ``init``, ``run``, ``up``, ``down`` and ``upgrade``."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from graftline.core.environment import CALLED_FROM_VARIABLE
from graftline.core.errors import ProjectError
from graftline.core.workspace import Workspace

if TYPE_CHECKING:
    from graftline.operations.new_project import NewProject

_FLOW = "flows.train"


def show_new_project(_: Workspace, folder: Path, images: Path | None) -> int:
    """Runs ``graftline init``.

    Returns:
        The exit code 0.
    """
    from graftline.operations.new_project import make_project

    console = Console(highlight=False, soft_wrap=True)
    made = make_project(folder, images)
    for line in _told(made.root, made):
        console.print(line, markup=False)
    return 0


def show_upgrade(workspace: Workspace) -> int:
    """Runs ``graftline upgrade``.

    Returns:
        The exit code 0.
    """
    from graftline.core.locks import pipeline_lock
    from graftline.operations.upgrade import upgrade
    from graftline.orchestration.overrides import plan_completion

    console = Console(highlight=False, soft_wrap=True)
    done = upgrade(workspace)
    for name in done.written:
        console.print(f"written  {name}", markup=False)
    for name in done.removed:
        console.print(f"removed  {name}: graftline {done.now} has none", markup=False)
    for name in done.absent:
        console.print(f"absent   {name}: you have taken it away", markup=False)
    for name, difference in done.kept.items():
        console.print(f"yours    {name}, as it was; what graftline {done.now} has otherwise:")
        console.print(difference, markup=False)
    if done.stale:
        console.print(f"stale    {', '.join(done.stale)}: their code has changed")
    with pipeline_lock(workspace):
        completion = plan_completion(workspace)
        put_in = completion.told(workspace)
        completion.write(workspace)
    for line in put_in:
        console.print(f"params   {line}", markup=False)
    changed = f"from graftline {done.before} to {done.now}"
    any_new = done.written or done.removed or put_in
    what = "look at it with git diff, and commit" if any_new else "current"
    console.print(f"upgrade  {changed if done.before != done.now else done.now}: {what}")
    return 0


def run_flow(workspace: Workspace, debug: bool, rest: Sequence[str]) -> int:
    """Runs ``graftline run``: takes the place of this process by ``python -m flows.train``.

    Raises:
        ProjectError: If there is no project here.
    """
    root = workspace.root
    if not (root / "flows" / "train.py").is_file():
        raise ProjectError(
            "there is no flows/train.py here, so this is no project",
            where=str(root),
            fix="change into a project and run again, or make one: graftline init FOLDER",
        )
    os.environ[CALLED_FROM_VARIABLE] = str(Path.cwd())
    os.chdir(root)
    told = ["--debug"] if debug else []
    os.execv(sys.executable, [sys.executable, "-m", _FLOW, *told, *rest])


def bring_up(workspace: Workspace, prefect_port: int | None, mlflow_port: int | None) -> int:
    """Runs ``graftline up``.

    Returns:
        The exit code 0.
    """
    from graftline.operations.servers import MLFLOW_PORT, PREFECT_PORT
    from graftline.orchestration.services import up

    os.chdir(workspace.root)
    console = Console(highlight=False, soft_wrap=True)
    up(
        workspace,
        console,
        prefect_port=PREFECT_PORT if prefect_port is None else prefect_port,
        mlflow_port=MLFLOW_PORT if mlflow_port is None else mlflow_port,
    )
    return 0


def take_down(workspace: Workspace) -> int:
    """Runs ``graftline down``.

    Returns:
        The exit code 0.
    """
    from graftline.orchestration.services import down

    down(workspace, Console(highlight=False, soft_wrap=True))
    return 0


def _told(root: Path, made: NewProject) -> Iterator[str]:
    if made.look is not None:
        yield f"images   {made.look}"
        for broken in made.look.broken[:3]:
            yield f"warning  {broken}"
    for one in made.proposals:
        why = f"  # {one.reason}" if one.reason and one.key != "data.source" else ""
        yield f"params   {one.key}: {one.value}{why}"
    place = shlex.quote(str(root))
    yield f"project  {root}"
    if made.repository is not None:
        yield f"git      lies in the repository {made.repository}; commit it there:"
        yield f"         git -C {place} add --all . && git commit --message 'A new project'"
    if made.untracked is not None:
        inside = shlex.quote(made.untracked.relative_to(root).as_posix())
        yield f"data     {inside} is in no version yet; DVC keeps it: dvc add {inside}"
    yield f"next     cd {place} && graftline run"
