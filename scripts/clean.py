"""Removes what runs have left: ``python -m scripts.clean [--yes]``.

Outputs, caches and state go. Parameters, sources, ``.venv`` and every DVC remote stay.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console
from rich.prompt import Confirm

from graftline.core.errors import PipelineBusyError, UserError
from graftline.core.exit_codes import reported
from graftline.core.locks import pipeline_lock
from graftline.core.workspace import Workspace
from graftline.operations.servers import alive, mlflow_server, prefect_server

STATE = ("var", ".dvc/cache", ".dvc/tmp")
CACHES = (
    ".hypothesis",
    ".import_linter_cache",
    ".mypy_cache",
    ".pytest_cache",
    ".ruff_cache",
    "dist",
)
_REFUSED = 2


def main(arguments: Sequence[str]) -> int:
    """Removes what it has listed, once the user has agreed.

    Returns:
        The exit code: 0, or 2 if it was refused or may not be.
    """
    parser = argparse.ArgumentParser(
        prog="python -m scripts.clean", description=(__doc__ or "").replace("``", "")
    )
    parser.add_argument("--yes", action="store_true", help="do not ask")
    agreed = parser.parse_args(arguments).yes
    return reported(lambda: clean(Workspace.here(), agreed=agreed), debug=False)


def clean(workspace: Workspace, *, agreed: bool) -> int:
    """Lists what runs have left, asks unless ``agreed``, and removes it.

    Returns:
        The exit code: 0, or 2 if nobody is there to ask.

    Raises:
        PipelineBusyError: If a pipeline is running, or a server that keeps its data in ``var/``.
        UserError: If a DVC remote lies inside what would go.
    """
    console = Console(highlight=False, soft_wrap=True)
    ran = projects(workspace)
    there = [path for one in ran for path in leftovers(one)]
    if not there:
        console.print("clean: there is nothing to remove")
        return 0
    with ExitStack() as stack:
        for one in ran:
            stack.enter_context(pipeline_lock(one))
            _refuse_servers(one)
            _refuse_remotes(one, leftovers(one))
        _tell(console, workspace, there)
        if not agreed:
            if not sys.stdin.isatty():
                console.print("clean: nothing was removed; make clean YES=1 does not ask")
                return _REFUSED
            if not Confirm.ask("Remove them?", console=console, default=False):
                console.print("clean: nothing was removed")
                return 0
        for path in there:
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    # The lock itself lay in var/, and left a folder behind when it was let go.
    for one in ran:
        shutil.rmtree(one.var, ignore_errors=True)
    console.print("clean: done")
    return 0


def projects(workspace: Workspace) -> list[Workspace]:
    """The checkout, and those of its examples that have run."""
    files = sorted((workspace.root / "examples").glob("*/params.yaml"))
    examples = (Workspace(file.parent) for file in files)
    return [workspace, *(one for one in examples if leftovers(one))]


def leftovers(workspace: Workspace) -> list[Path]:
    """What runs have left in a project: outputs, state and caches."""
    receipts = (workspace.promotion, workspace.promotion.with_suffix(".md"), workspace.rollback)
    others = (workspace.root / name for name in (*STATE, *CACHES))
    return [
        path
        for path in (*workspace.outputs, *receipts, *others)
        if path.exists() or path.is_symlink()
    ]


def _refuse_servers(workspace: Workspace) -> None:
    for server in (prefect_server(workspace), mlflow_server(workspace)):
        if alive(server):
            raise PipelineBusyError(
                f"a server of {server.title} is running on the database in {workspace.var}",
                fix="stop make ui, or wait for the flow that has started it",
            )


def _refuse_remotes(workspace: Workspace, there: list[Path]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "remote", "list"],
        cwd=workspace.root,
        # DVC folds what is wider than the terminal, and a folded address is none.
        env={**os.environ, "COLUMNS": "100000"},
        check=True,
        capture_output=True,
        text=True,
    )
    for line in done.stdout.splitlines():
        name, address = line.removesuffix("(default)").split(None, 1)
        remote = Path(address.strip()).resolve()
        for path in there:
            if remote.is_relative_to(path.resolve()):
                raise UserError(
                    f"the DVC remote {name} lies inside {path.relative_to(workspace.root)}",
                    where=str(remote),
                    fix="move it elsewhere first, and tell DVC: dvc remote modify",
                )


def _tell(console: Console, workspace: Workspace, there: list[Path]) -> None:
    console.print("clean: this goes")
    for path in there:
        size_mb = _size_bytes(path) / 1e6
        console.print(f"  {size_mb:8.1f} MB  {path.relative_to(workspace.root)}", markup=False)
    console.print(
        "var holds Prefect's and MLflow's histories with all registered models, .dvc/cache every\n"
        "output that was not pushed to a DVC remote."
    )


def _size_bytes(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() and not path.is_symlink() else [path]
    return sum(file.lstat().st_size for file in files)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
