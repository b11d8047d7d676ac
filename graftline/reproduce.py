"""``graftline reproduce``: runs a run of the past again, and compares what comes out.

A temporary worktree at the run's commit gets the run's own ``params.yaml`` and ``dvc.lock``, which
its history holds, and by them the same data from DVC. Every stage after ``load`` then runs again.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from graftline import tracking
from graftline.artifacts import Assembled, Dataset, Metrics, Record, Trained
from graftline.dvc_commands import dvc_ended
from graftline.environment import ERROR_FILE_VARIABLE, HELD_BY_VARIABLE, RUN_ID_VARIABLE
from graftline.errors import ReproductionError, StageFailedError
from graftline.keras_home import keras_home
from graftline.lockfile import LOCK_FILE
from graftline.mend import remove_damaged_objects
from graftline.params import read_params
from graftline.processes import ProcessIdentity, end_group, termination_as_interrupt
from graftline.silence import awaited
from graftline.stages import STAGES
from graftline.starts import module_command
from graftline.storage import scratch_folder
from graftline.tracking import PastRun
from graftline.tracking.contents import test_metrics as metrics_of
from graftline.tracking.contents import versions
from graftline.workspace import Workspace
from graftline.worktrees import has_commit, worktree

DIFFERENT = 1
"""The exit code if anything that matters came out differently."""
_FROM_HISTORY = ("params.yaml", LOCK_FILE)
_RUN_ID_CHARACTERS = 32
_ENDING_S = 10.0
_LAST_LINES = 15
_NOT_INHERITED = (
    "DVC_ROOT",
    "DVC_STAGE",
    "MLFLOW_EXPERIMENT_NAME",
    "MLFLOW_RUN_ID",
    "MLFLOW_TRACKING_URI",
    ERROR_FILE_VARIABLE,
    HELD_BY_VARIABLE,
    RUN_ID_VARIABLE,
)
"""With these the copy's stages would write into the history that they are compared with."""


class Compared(Record):
    """One thing that came out then, and now."""

    what: str
    then: str | float | None
    now: str | float | None
    decides: bool
    """Whether a difference makes the run a different one; that of a package only explains it."""

    @property
    def same(self) -> bool:
        """Whether nothing has changed, to the last bit."""
        return self.then == self.now


class Reproduction(Record):
    """A run of the past beside its repetition."""

    run_id: str
    name: str
    commit: str
    data_from: str
    """``DVC``, or ``the source`` where DVC no longer had what ``load`` wrote."""
    compared: tuple[Compared, ...]

    @property
    def same(self) -> bool:
        """Whether all that decides came out the same."""
        return all(one.same for one in self.compared if one.decides)


@dataclass(frozen=True)
class _Copy:
    """The worktree that a run is repeated in."""

    workspace: Workspace
    environment: Mapping[str, str]
    logs: Path


def reproduce(
    workspace: Workspace, which: str, on_step: Callable[[str], None] = lambda _: None
) -> Reproduction:
    """Runs a run again in a temporary worktree, which is gone afterwards.

    Args:
        workspace: The checkout, whose history, git and DVC cache are used and not changed, but
            that damaged objects are taken from the cache.
        which: A run's id, a version's number, or an alias such as ``champion``.
        on_step: Told what is done next.

    Raises:
        ReproductionError: If the run is not known, did not finish, was made from files that no
            commit holds, or if its commit or its files are lost.
        StageFailedError: If a stage fails.
        TrackingError: If the history cannot be used.
    """
    run = _wanted(workspace, which)
    commit = _commit(workspace, run)
    with scratch_folder() as folder:
        files = [_from_history(workspace, run, name, folder) for name in _FROM_HISTORY]
        on_step(f"a worktree at {commit[:12]}")
        with worktree(workspace.root, commit) as place:
            for path in files:
                shutil.copy(path, place / path.name)
            return _repeated(_copied(workspace, run, place), run, commit, on_step)


def _repeated(
    copy: _Copy, run: PastRun, commit: str, on_step: Callable[[str], None]
) -> Reproduction:
    on_step("load: from DVC's cache")
    data_from = "DVC"
    if not _has_data(copy):
        data_from = "the source"
        _run_stage(copy, "load", on_step)
    for stage in STAGES[1:]:
        _run_stage(copy, stage, on_step)
    return Reproduction(
        run_id=run.run_id,
        name=run.name,
        commit=commit,
        data_from=data_from,
        compared=tuple(_comparison(run, copy.workspace)),
    )


def show_reproduction(workspace: Workspace, which: str, *, as_json: bool) -> int:
    """Runs ``graftline reproduce``.

    Returns:
        The exit code: 0 if the same came out, 1 if not.
    """
    console = Console(highlight=False, soft_wrap=as_json)
    steps = Console(stderr=True, highlight=False)
    with termination_as_interrupt(), steps.status("reading the history") as status:

        def on_step(text: str) -> None:
            status.update(text)
            if not steps.is_terminal:
                steps.print(text, markup=False)

        found = reproduce(workspace, which, on_step)
    if as_json:
        record = found.model_dump(mode="json") | {"same": found.same}
        console.print(json.dumps(record, indent=2), markup=False)
    else:
        console.print(_table(found))
        console.print(_verdict(found), markup=False)
    return 0 if found.same else DIFFERENT


def _wanted(workspace: Workspace, which: str) -> PastRun:
    where = tracking.configure(workspace).shown
    run_id = which
    if len(which) != _RUN_ID_CHARACTERS:
        name = read_params(workspace.params_file).register_.model_name
        version = tracking.find_version(workspace, name, which)
        if version is None:
            raise ReproductionError(
                f"{name} has no version {which}, and it is no run's id",
                where=where,
                allowed="a run's id (32 characters), a version's number, or an alias",
                fix="graftline models lists the versions with their runs (--json)",
            )
        run_id = version.run_id
    run = tracking.find_run(workspace, run_id)
    if run is None:
        raise ReproductionError(
            f"the history has no run {run_id}",
            where=where,
            fix="graftline models --json and make ui show the runs that there are",
        )
    return run


def _commit(workspace: Workspace, run: PastRun) -> str:
    if run.status != "FINISHED":
        raise ReproductionError(
            f"run {run.run_id} is {run.status}: there is nothing whole to compare with",
            allowed="a run that is FINISHED",
        )
    commit = run.tags.get("graftline.git_commit")
    if not commit:
        raise ReproductionError(
            f"run {run.run_id} has no commit, so nobody knows its code: where it was made was no "
            "git repository, or git did not trust it",
            fix="commit before the next run; where git does not answer, it says what to do",
        )
    if run.tags.get("graftline.git_dirty") != "false":
        names = run.tags.get("graftline.git_changed", "unknown files").splitlines()
        changed = [name for name in names if name not in _FROM_HISTORY]
        # The history holds the run's own params.yaml, so it may differ from the commit's.
        if changed:
            raise ReproductionError(
                f"run {run.run_id} was dirty: it was made with changes that no commit holds, in "
                f"{', '.join(changed)}",
                allowed="a run of committed files; params.yaml and dvc.lock may differ",
                fix="commit before a run that is to be reproduced",
            )
    if not has_commit(workspace.root, commit):
        raise ReproductionError(
            f"git does not know the commit {commit[:12]} of run {run.run_id}",
            where=str(workspace.root),
            fix="git fetch --all from where the run was made, if that is another clone",
        )
    return commit


def _from_history(workspace: Workspace, run: PastRun, name: str, folder: Path) -> Path:
    path = tracking.fetch_from_run(workspace, run.run_id, name, folder)
    if path is None:
        raise ReproductionError(
            f"run {run.run_id} has no {name} any more, or never had one",
            where=tracking.configure(workspace).shown,
            fix="put the run's files back from a backup",
        )
    return path


def _copied(workspace: Workspace, run: PastRun, place: Path) -> _Copy:
    copy = Workspace(place)
    weights = workspace.var / "weights"
    if weights.is_dir():
        # Downloads, each under its hash.
        copy.var.mkdir(exist_ok=True)
        (copy.var / "weights").symlink_to(weights)
    inherited = {name: text for name, text in os.environ.items() if name not in _NOT_INHERITED}
    # The code of that commit may look for downloads there, and puts its own settings in place.
    inherited["KERAS_HOME"] = str(keras_home())
    folder = str(Path(sys.executable).parent)
    environment = inherited | {
        "PATH": os.pathsep.join((folder, inherited.get("PATH", ""))),
        # First the code of the commit, before any that is installed.
        "PYTHONPATH": os.pathsep.join((str(place), inherited.get("PYTHONPATH", ""))),
        "PYTHONDONTWRITEBYTECODE": "1",
        "NO_COLOR": "1",
    }
    return _Copy(copy, environment, workspace.var / "logs" / f"reproduce-{run.run_id[:12]}")


def _has_data(copy: _Copy) -> bool:
    """Whether DVC has what the run's ``load`` wrote, in its cache or in a remote."""
    # Bytes that a disk has damaged would come back as they are; a remote may have better ones.
    remove_damaged_objects(copy.workspace.root, ("load",), copy.environment)
    for command in ("checkout", "pull"):
        done = dvc_ended(copy.workspace.root, command, "load", environment=copy.environment)
        if done.returncode == 0 and (copy.workspace.loaded / "dataset.json").is_file():
            return True
    return False


def _run_stage(copy: _Copy, stage: str, on_step: Callable[[str], None]) -> None:
    on_step(f"{stage}: runs again")
    copy.logs.mkdir(parents=True, exist_ok=True)
    log_file = copy.logs / f"{stage}.log"
    with log_file.open("w", encoding="utf-8") as log:
        process = subprocess.Popen(
            module_command("dvc", "repro", "--single-item", "--force", stage),
            cwd=copy.workspace.root,
            env=dict(copy.environment),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            # So that an interrupt ends the stage as well, whose process is DVC's child.
            start_new_session=True,
        )
        try:
            code = awaited(process)
        finally:
            if process.poll() is None:
                end_group(ProcessIdentity.of(process.pid), _ENDING_S)
                process.wait()
    if code:
        lines = log_file.read_text(encoding="utf-8", errors="replace").splitlines()
        last = "\n".join(f"  {line}" for line in lines[-_LAST_LINES:])
        raise StageFailedError(
            f"stage {stage} failed in the worktree:\n{last}", where=str(log_file)
        )


def _comparison(run: PastRun, workspace: Workspace) -> list[Compared]:
    assembled = Assembled.read(workspace.assembled / "assembled.json")
    trained = Trained.read(workspace.trained / "trained.json")
    found = {
        "data": ("dataset_digest", Dataset.read(workspace.loaded / "dataset.json").digest),
        "base weights": ("base_weights_sha256", assembled.weights_sha256),
        "trunk": ("trunk_digest", assembled.trunk_digest),
        "weights": ("weight_digest", trained.weight_digest),
    }
    compared = [
        Compared(what=what, then=run.tags.get(f"graftline.{tag}"), now=now, decides=True)
        for what, (tag, now) in found.items()
    ]
    for name, value in metrics_of(Metrics.read(workspace.metrics)).items():
        compared.append(
            Compared(what=name, then=run.metrics.get(name), now=float(value), decides=True)
        )
    return compared + _packages(run.tags)


def _packages(tags: Mapping[str, str]) -> list[Compared]:
    """The packages whose versions have changed since; they explain, and do not decide."""
    return [
        Compared(what=name, then=tags.get(tag), now=now, decides=False)
        for tag, now in versions().items()
        if tags.get(tag) != now
        for name in (tag.removeprefix("graftline.version."),)
    ]


def _table(found: Reproduction) -> Table:
    table = Table()
    for title in ("what", "then", "now", ""):
        table.add_column(title, overflow="fold")
    for one in found.compared:
        mark = "[green]same[/green]" if one.same else "[red]differs[/red]"
        if not one.decides:
            mark = "[yellow]changed[/yellow]"
        table.add_row(one.what, _shown(one.then, one.same), _shown(one.now, one.same), mark)
    return table


def _shown(value: str | float | None, same: bool) -> str:
    if value is None:
        return "none"
    if isinstance(value, float):
        # A difference may be one of the last digit.
        return f"{value:.6g}" if same else repr(value)
    return value[:16]


def _verdict(found: Reproduction) -> str:
    begun = f"Run {found.run_id[:12]} ({found.name}), data from {found.data_from}: "
    if found.same:
        return begun + "the same came out, to the last bit."
    names = ", ".join(one.what for one in found.compared if one.decides and not one.same)
    changed = [one.what for one in found.compared if not one.decides]
    why = f" Since then {', '.join(changed)} changed." if changed else ""
    return f"{begun}it came out differently: {names}.{why}"
