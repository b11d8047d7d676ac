"""``graftline reproduce``: runs a run of the past again, and compares what comes out.

A temporary worktree at the run's commit gets the run's own ``params.yaml`` and ``dvc.lock``, which
its history holds, and by them the same data from DVC. Every stage after ``load`` then runs again.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import graftline
from graftline.core.code_lock import CODE_LOCK, changed_code
from graftline.core.code_state import version_of
from graftline.core.dvc_lock import LOCK_FILE
from graftline.core.environment import ERROR_FILE_VARIABLE, HELD_BY_VARIABLE, RUN_ID_VARIABLE
from graftline.core.errors import MissingOutputError, ReproductionError, StageFailedError
from graftline.core.files import scratch_folder
from graftline.core.keras_home import keras_home
from graftline.core.params import read_params
from graftline.core.processes import ProcessIdentity, end_group
from graftline.core.records import Assembled, Dataset, Metrics, Record, Trained
from graftline.core.repository import git, top
from graftline.core.silence import awaited
from graftline.core.stages import STAGES
from graftline.core.startup import module_command
from graftline.core.workspace import Workspace
from graftline.operations.dvc_commands import dvc_ended
from graftline.operations.dvc_listings import checked_lock, listing
from graftline.operations.mend import remove_damaged_objects
from graftline.operations.other_version import (
    OtherVersion,
    installed_version,
    is_version,
    locked_version,
    refuse_other_code,
)
from graftline.operations.own_stages import own_stages
from graftline.operations.worktrees import CACHE, has_commit, is_commits_number, is_ours, worktree
from graftline.registry import tracking
from graftline.registry.tracking import PastRun
from graftline.registry.tracking.run_contents import test_metrics as metrics_of
from graftline.registry.tracking.run_contents import versions, why_not_reproducible

DIFFERENT = 1
"""The exit code if anything that matters came out differently."""
_FROM_HISTORY = ("params.yaml", LOCK_FILE)
_RUN_ID = re.compile(r"[0-9a-f]{32}")
_ENDING_S = 10.0
_LAST_LINES = 15
_SHOWN_CHARACTERS = 80
_DECIDING = ("tensorflow", "keras", "ai-edge-litert")
"""Packages whose versions a run's tags have, and which compute: they come as they were."""
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
    other_version: str | None = None
    """Of Graftline, if the run's code was not the installed one: which version ran it."""

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
    listing: str | None
    """The hash of DVC's listing of ``data/loaded``."""
    brings_code: bool
    """Whether the commit holds the library too, as this repository's do; projects' do not."""
    other: OtherVersion | None = None
    """The Graftline that runs the stages, if it is not the installed one."""


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
        lock, listed = checked_lock(files[1], "data/loaded")
        files[1].write_text(lock, encoding="utf-8")
        with worktree(workspace.root, commit) as place:
            for path in files:
                # A commit may hold a link there, which leads to a file of the user's.
                (place / path.name).unlink(missing_ok=True)
                shutil.copy(path, place / path.name)
            copy = _copied(workspace, run, place, listed)
            copy = _with_its_code(workspace, copy, run, on_step)
            return _repeated(copy, run, commit, on_step)


def _repeated(
    copy: _Copy, run: PastRun, commit: str, on_step: Callable[[str], None]
) -> Reproduction:
    on_step("load: from DVC's cache")
    data_from = "DVC" if _has_data(copy) else "the source"
    own = own_stages(copy.workspace.root, environment=copy.environment)
    for stage in STAGES[1:] if data_from == "DVC" else STAGES:
        for name in (*own.get(stage, ()), stage):
            _run_stage(copy, name, on_step)
    return Reproduction(
        run_id=run.run_id,
        name=run.name,
        commit=commit,
        data_from=data_from,
        compared=tuple(_comparison(run, copy)),
        other_version=copy.other.version if copy.other else None,
    )


def _wanted(workspace: Workspace, which: str) -> PastRun:
    where = tracking.configure(workspace).shown
    run_id = which
    if not _RUN_ID.fullmatch(which):
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
    run = tracking.find_run(workspace, run_id) if _RUN_ID.fullmatch(run_id) else None
    if run is None:
        raise ReproductionError(
            f"the history has no run {run_id!r}",
            where=where,
            fix="graftline models --json and graftline ui show the runs that there are",
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
    if why := why_not_reproducible(run.tags):
        raise ReproductionError(
            f"run {run.run_id} was made from files that were not committed: {why}",
            allowed="a run whose stages read committed files; params.yaml and dvc.lock may differ",
            fix="commit before a run that is to be reproduced",
        )
    # Who can write to a history that others share can name any code to be run here.
    if not is_commits_number(commit):
        raise ReproductionError(
            f"run {run.run_id} names the commit {commit[:_SHOWN_CHARACTERS]!r}, which is no "
            "commit's number",
            allowed="40 (or 64) hexadecimal digits, as git rev-parse HEAD prints them",
            fix="look at the run's tags (graftline ui): somebody has altered them",
        )
    if not has_commit(workspace.root, commit):
        shallow = (git(workspace.root, "rev-parse", "--is-shallow-repository") or "").strip()
        raise ReproductionError(
            f"git does not know the commit {commit[:12]} of run {run.run_id}",
            where=str(workspace.root),
            fix="this clone has no older commits: git fetch --unshallow"
            if shallow == "true"
            else "git fetch --all from where the run was made, if that is another clone",
        )
    if not is_ours(workspace.root, commit):
        raise ReproductionError(
            f"no branch of this checkout leads to the commit {commit[:12]} of run {run.run_id}, so "
            "its code may be anybody's, and would be run",
            where=str(workspace.root),
            allowed="a commit that a branch here, or what is checked out, leads to; not one that "
            "was only fetched",
            fix=f"look at it (git show {commit[:12]}), and if you trust it, give it a branch: "
            f"git branch reproduce-{commit[:12]} {commit}",
        )
    return commit


def _with_its_code(
    workspace: Workspace, copy: _Copy, run: PastRun, on_step: Callable[[str], None]
) -> _Copy:
    """Has a run of a project, whose commit holds no code, run by the code that it was made with.

    That is the installed one, or the version that ``graftline.lock`` names, from the index.
    """
    root = copy.workspace.root
    if copy.brings_code or not (root / CODE_LOCK).is_file():
        return copy
    if not (changed := changed_code(copy.workspace)):
        return copy
    # What the commit says, before what anybody may have written into a history that is shared.
    tags = {name: text for name, text in run.tags.items() if is_version(text)}
    version = locked_version(root) or tags.get("graftline.version.graftline")
    made_with = (
        f"run {run.run_id} was made with graftline {version or 'of another version'}, and here is "
        f"graftline {graftline.__version__}, in which the code of {', '.join(changed)} is another"
    )
    on_step(made_with)
    if version is None:
        raise ReproductionError(
            made_with,
            where=f"{CODE_LOCK} of the run's commit, which names no version",
            fix="install the Graftline that the run was made with into an environment, and run "
            "this command there",
        )
    pinned = {name: tags[tag] for name in _DECIDING if (tag := f"graftline.version.{name}") in tags}
    try:
        other = installed_version(workspace, root, version, pinned, on_step)
    except ReproductionError as error:
        place = f"var/graftline-{version}"
        raise ReproductionError(
            f"{made_with}. That version could not be installed: {error.what}",
            where=f"{CODE_LOCK} of the run's commit",
            allowed="the code that the run was made with",
            fix=f"name an index or a folder that has it (PIP_INDEX_URL, PIP_FIND_LINKS), or make "
            f"an environment for it by hand, and run this there:\n"
            f"python3 -m venv {place} && {place}/bin/pip install graftline=={version}\n"
            f"{place}/bin/graftline reproduce {run.run_id}",
        ) from error
    environment = other.environment(copy.environment, root)
    refuse_other_code(other, root, environment)
    return replace(copy, environment=environment, other=other)


def _from_history(workspace: Workspace, run: PastRun, name: str, folder: Path) -> Path:
    path = tracking.fetch_from_run(workspace, run.run_id, name, folder)
    if path is None:
        raise ReproductionError(
            f"run {run.run_id} has no {name} any more, or never had one",
            where=tracking.configure(workspace).shown,
            fix="put the run's files back from a backup",
        )
    return path


def _copied(workspace: Workspace, run: PastRun, place: Path, listed: str | None) -> _Copy:
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
    code = _code_in(place)
    environment = inherited | {
        "PATH": os.pathsep.join((folder, inherited.get("PATH", ""))),
        # First the code of the commit, before any that is installed.
        "PYTHONPATH": os.pathsep.join((str(code or place), inherited.get("PYTHONPATH", ""))),
        "PYTHONDONTWRITEBYTECODE": "1",
        "NO_COLOR": "1",
    }
    logs = workspace.var / "logs" / f"reproduce-{run.run_id[:12]}"
    return _Copy(copy, environment, logs, listed, code is not None)


def _code_in(place: Path) -> Path | None:
    """The folder of a worktree that holds the library: its top, or the project's own root."""
    above = (top(place) or place).resolve()
    folders = (one for one in (place, *place.parents) if one.resolve().is_relative_to(above))
    return next((one for one in folders if (one / "graftline" / "__init__.py").is_file()), None)


def _has_data(copy: _Copy) -> bool:
    """Whether DVC has what the run's ``load`` wrote, in its cache or in a remote."""
    if copy.listing is None:
        return False
    root = copy.workspace.root
    # Bytes that a disk has damaged would come back as they are; a remote may have better ones.
    remove_damaged_objects(root, ("load",), copy.environment)
    for fetches in (False, True):
        if fetches:
            dvc_ended(root, "fetch", "load", environment=copy.environment)
        # Looked at before DVC follows it.
        if listing(root / CACHE, copy.listing) is None:
            continue
        done = dvc_ended(root, "checkout", "load", environment=copy.environment)
        if done.returncode == 0 and Dataset.path_in(copy.workspace).is_file():
            return True
    return False


def _run_stage(copy: _Copy, stage: str, on_step: Callable[[str], None]) -> None:
    on_step(f"{stage}: runs again")
    copy.logs.mkdir(parents=True, exist_ok=True)
    log_file = copy.logs / f"{stage.replace('/', '-')}.log"
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


def _comparison(run: PastRun, copy: _Copy) -> list[Compared]:
    workspace = copy.workspace
    found = {
        "data": ("dataset_digest", _written(Dataset, workspace).get("digest")),
        "base weights": (
            "base_weights_sha256",
            _written(Assembled, workspace).get("weights_sha256"),
        ),
        "backbone": ("backbone_digest", _written(Assembled, workspace).get("backbone_digest")),
        "weights": ("weight_digest", _written(Trained, workspace).get("weight_digest")),
    }
    compared = [
        Compared(what=what, then=run.tags.get(f"graftline.{tag}"), now=now, decides=True)
        for what, (tag, now) in found.items()
    ]
    for name, value in _metrics(workspace).items():
        compared.append(
            Compared(what=name, then=run.metrics.get(name), now=float(value), decides=True)
        )
    return compared + _packages(run.tags, copy.other)


def _written(kind: type[Record], workspace: Workspace) -> dict[str, Any]:
    """What a step wrote, whose other fields another version may have differently."""
    record: dict[str, Any] = json.loads(kind.path_in(workspace).read_text(encoding="utf-8"))
    return record


def _metrics(workspace: Workspace) -> dict[str, float]:
    try:
        return metrics_of(Metrics.read_in(workspace))
    except MissingOutputError:
        # What another version has measured: its numbers, without those of each class.
        record = _written(Metrics, workspace)
        return {name: one for name, one in record.items() if isinstance(one, int | float)}


def _packages(tags: Mapping[str, str], other: OtherVersion | None) -> list[Compared]:
    """The packages whose versions have changed since; they explain, and do not decide."""
    return [
        Compared(what=name, then=tags.get(tag), now=now, decides=False)
        for tag, now in versions(other.version_of if other else version_of).items()
        if tags.get(tag) != now
        for name in (tag.removeprefix("graftline.version."),)
    ]
