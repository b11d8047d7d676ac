"""What must hold in the end, however often everything was killed before."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass

import psutil

from graftline.core.dvc_lock import read_lock
from graftline.core.files import sha256_file
from graftline.core.records import Trained
from tests.torture import processes
from tests.torture.place import Place

_FINAL = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
_SETTLING_S = 30.0
_OF_MLFLOW = """
import json
from graftline.registry.tracking import all_versions, fetch_model
from graftline.registry.tracking.store import configure, open_client
from graftline.core.workspace import Workspace
workspace = Workspace.here()
client, experiment = open_client(configure(workspace))
runs = client.search_runs([experiment], max_results=50000)
versions = all_versions(workspace, "tortured")
torn = []
for version in versions:
    try:
        fetch_model(workspace, version)
    except Exception as error:
        torn.append(f"version {version.version}: {error}")
print(json.dumps({
    "runs": {run.info.run_id: run.info.status for run in runs},
    "versions": [(one.version, one.weight_digest) for one in versions],
    "torn": torn,
}))
"""


@dataclass(frozen=True)
class Results:
    """What a run has come to.

    Args:
        metrics: The bytes of ``reports/metrics.json``.
        weight_digest: Of the trained network.
        outs: The digest of every output, by path, as DVC knows it.
        files: The digest of every file of every output, by path, as it lies there.
    """

    metrics: bytes
    weight_digest: str
    outs: dict[str, str]
    files: dict[str, str]

    @classmethod
    def of(cls, place: Place) -> Results:
        """Those that lie in a place now."""
        outs: dict[str, str] = {}
        for stage in read_lock(place.root).values():
            outs |= stage.outs
        return cls(
            place.workspace.metrics.read_bytes(),
            Trained.read(place.workspace.trained / "trained.json").weight_digest,
            outs,
            {
                path.relative_to(place.root).as_posix(): sha256_file(path)
                for out in outs
                for path in (place.root / out, *(place.root / out).rglob("*"))
                if path.is_file()
            },
        )


@dataclass(frozen=True)
class Check:
    """One thing that must hold, and what speaks against it."""

    title: str
    wrong: tuple[str, ...]
    count: str = ""


def differences(found: Results, expected: Results) -> list[str]:
    """How two runs' results differ."""
    wrong = []
    if found.weight_digest != expected.weight_digest:
        wrong.append(f"weights {found.weight_digest}, not {expected.weight_digest}")
    if found.metrics != expected.metrics:
        wrong.append("reports/metrics.json has other bytes")
    for path in sorted(expected.outs.keys() | found.outs.keys()):
        if found.outs.get(path) != expected.outs.get(path):
            wrong.append(f"{path} is {found.outs.get(path)}, not {expected.outs.get(path)}")
    for path in sorted(expected.files.keys() | found.files.keys()):
        if found.files.get(path) != expected.files.get(path):
            wrong.append(f"{path} has other bytes")
    return wrong


def checks(place: Place, expected: Results) -> Iterator[Check]:
    """Looks at everything, after a flow has come to its end."""
    yield Check("no orphan process", tuple(_orphans(place)))
    found = Results.of(place)
    yield Check(
        "metrics, weights and all outputs as undisturbed",
        tuple(differences(found, expected)),
        f"{len(found.outs)} outputs, {len(found.files)} files",
    )
    yield Check("dvc status clean", tuple(_dvc_status(place)))
    yield Check("git as before: parameters, dvc.lock, the commit", tuple(_git_status(place)))
    yield Check("no half file", tuple(_half_files(place)))
    history = json.loads(_python(place, _OF_MLFLOW))
    yield Check(
        "no run left Running in MLflow",
        tuple(run for run, status in history["runs"].items() if status == "RUNNING"),
        f"{len(history['runs'])} runs",
    )
    yield Check("no open execution", tuple(_records(place)))
    versions = history["versions"]
    digests = [digest for _, digest in versions]
    twice = [
        f"version {number}: weights once more" for number, d in versions if digests.count(d) > 1
    ]
    yield Check(
        "every registry version has its files, each weights one version",
        tuple(history["torn"] + twice),
        f"{len(versions)} versions",
    )
    open_runs, count = _prefect(place)
    yield Check("no run left Running in Prefect", tuple(open_runs), f"{count} flow runs")


def _orphans(place: Place) -> Iterator[str]:
    until = time.monotonic() + _SETTLING_S
    while (left := processes.marked(place.mark)) and time.monotonic() < until:
        processes.reap()
        time.sleep(0.1)
    for process in left:
        try:
            yield f"process {process.pid}: {' '.join(process.cmdline())[-120:]}"
        except psutil.Error:
            continue


def _dvc_status(place: Place) -> Iterator[str]:
    report = json.loads(_run(place, "dvc", "status", "--json").splitlines()[-1])
    for stage, reasons in report.items():
        yield f"{stage}: {json.dumps(reasons)}"


def _git_status(place: Place) -> Iterator[str]:
    for line in _run(place, "git", "status", "--porcelain").splitlines():
        if line.split()[-1] not in ("dvc.lock", "params.yaml"):
            yield line
    yield from _run(place, "git", "stash", "list").splitlines()
    # DVC leaves HEAD at the branch's commit if it is killed just before it returns to the branch.
    # Once a later experiment has removed the record, that looks like a checkout by hand.
    head = _run(place, "git", "rev-parse", "HEAD").strip()
    if head not in _run(place, "git", "for-each-ref", "--format=%(objectname)", "refs/heads"):
        yield "HEAD is at another commit than the branch"


def _half_files(place: Place) -> Iterator[str]:
    for path in sorted(place.root.rglob("*")):
        name = path.name
        if ".git" in path.relative_to(place.root).parts[:1] and not name.endswith(".lock"):
            continue
        if name.endswith(".tmp") or (name.startswith(".") and ".tmp" in name):
            yield str(path.relative_to(place.root))
        elif name.endswith(".lock") and path.is_relative_to(place.root / ".git"):
            yield str(path.relative_to(place.root))
    for path in sorted(place.temporary.iterdir()):
        yield f"$TMPDIR/{path.name}"


def _records(place: Place) -> Iterator[str]:
    var = place.workspace.var
    for path in (var / "stage.json", var / "prefect" / "server.json"):
        if path.exists():
            yield str(path.relative_to(place.root))
    for path in sorted((var / "mlflow" / "executions").glob("*")):
        yield str(path.relative_to(place.root))


def _prefect(place: Place) -> tuple[list[str], int]:
    database = place.workspace.var / "prefect" / "prefect.db"
    wrong = []
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        for table in ("flow_run", "task_run"):
            rows = connection.execute(
                f"select name, state_type from {table} where state_type is null or "
                f"state_type not in {_FINAL}"
            )
            wrong += [f"{table} {name}: {state}" for name, state in rows]
        (count,) = connection.execute("select count(*) from flow_run").fetchone()
    return wrong, count


def _python(place: Place, code: str) -> str:
    return _run(place, sys.executable, "-c", code).splitlines()[-1]


def _run(place: Place, *command: str) -> str:
    done = subprocess.run(
        command,
        cwd=place.root,
        env=place.environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[:3])} failed:\n{done.stdout}{done.stderr}")
    return done.stdout
