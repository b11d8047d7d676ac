"""A project whose records, artifacts and data lie on a team's servers, and nowhere else."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest
from PIL import Image

from graftline.core.workspace import Workspace
from tests.flows import toy
from tests.flows.team import BUCKET, HOST, Team, postgres_programs, stored, team
from tests.flows.toy import ran
from tests.torture import toys

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        postgres_programs() is None or (os.geteuid() == 0 and shutil.which("setpriv") is None),
        reason="PostgreSQL is not installed here (Debian: apt-get install postgresql)",
    ),
]
AWAY_S = float(os.environ.get("GRAFTLINE_TORTURE_OUTAGE_S", "30"))


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[Team]:
    folder = tmp_path / "servers"
    folder.mkdir()
    with team(folder) as one:
        yield one
    toys.end_all()


def test_a_project_with_nothing_local_but_its_checkout(servers: Team, tmp_path: Path) -> None:
    workspace = toys.make(tmp_path)
    shutil.rmtree(workspace.var)
    said = [
        run(workspace, servers, "dvc", "remote", "add", "-q", "-d", "team", f"s3://{BUCKET}/dvc")
    ]
    said.append(run(workspace, servers, "flows.train"))
    assert "was promoted as the first champion" in said[-1]
    commit_and_push(workspace, servers)

    # The database and the object store go away while training is at work.
    flow = toys.start(
        workspace,
        *toy.command("--set", "train.learning_rate=0.002"),
        environment={**servers.of_clients, "TOY_WAITS": "train"},
    )
    toys.wait_for(workspace.var / "waiting")
    with servers.outage():
        (workspace.var / "go").touch()
        time.sleep(AWAY_S)
    code, told = toys.ended(flow)
    said.append(told)
    assert code == 0, told
    assert "does not answer; waiting for it" in told and "answers again" in told, told
    assert "version 2 was promoted over version 1" in told, told
    assert toys.dvc_status(workspace) == {}
    commit_and_push(workspace, servers)

    # Another machine has the checkout alone.
    second = Workspace(tmp_path / "second")
    subprocess.run(["git", "clone", "-q", workspace.root, second.root], check=True)
    shutil.rmtree(workspace.root)
    said.append(run(second, servers, "dvc", "pull"))
    assert "up to date" in run(second, servers, "dvc", "status")
    Image.new("L", (28, 28), 255).save(tmp_path / "white.png")
    said.append(run(second, servers, "graftline", "predict", str(tmp_path / "white.png")))
    assert "bright" in said[-1] and "version 2" in said[-1], said[-1]
    out = str(tmp_path / "out.parquet")
    said.append(run(second, servers, "flows.predict", str(tmp_path / "white.png"), "--out", out))
    said.append(served(second, servers))
    said.append(run(second, servers, "graftline", "reproduce", "champion"))
    assert "the same came out, to the last bit" in " ".join(said[-1].split())
    # Nothing of the history has been kept here: it is asked for.
    assert not (second.var / "mlflow" / "mlflow.db").exists()
    assert not (second.var / "prefect" / "prefect.db").exists()

    objects = dict(stored(servers))
    assert any(name.startswith("dvc/") for name in objects)
    assert any(name.startswith("mlflow/") for name in objects)
    written = "\n".join([*said, servers.dumped()]).encode() + b"\n".join(objects.values())
    for place in (servers.folder, second.root, Path(out).parent):
        written += b"\n".join(path.read_bytes() for path in place.rglob("*") if path.is_file())
    for secret in servers.secrets:
        assert secret.encode() not in written


def test_servers_that_are_away_at_the_start_and_for_long(servers: Team, tmp_path: Path) -> None:
    workspace = toys.make(tmp_path)
    white = tmp_path / "white.png"
    Image.new("L", (28, 28), 255).save(white)
    run(workspace, servers, "flows.train")
    trained = ran(workspace)

    # The database goes in the midst of training, and does not come back while anybody waits.
    flow = toys.start(
        workspace,
        *toy.command("--set", "train.learning_rate=0.002"),
        environment={**servers.of_clients, "TOY_WAITS": "train", "GRAFTLINE_PATIENCE_S": "3"},
    )
    toys.wait_for(workspace.var / "waiting")
    servers.stop_database()
    (workspace.var / "go").touch()
    code, told = toys.ended(flow)
    refused(servers, code, told, "MLFLOW_TRACKING_URI", servers.mlflow, "database")
    assert "the tracking store" in told and "does not answer; waiting for it, up to 3 s" in told

    # Nothing begins without it, by any door.
    doors: tuple[tuple[str, ...], ...] = (
        ("graftline", "predict", str(white)),
        ("graftline", "serve", "--port", "0"),
        ("graftline", "models"),
        ("graftline", "reproduce", "champion"),
    )
    for door in doors:
        said = ended(workspace, servers, *door)
        refused(servers, *said, "MLFLOW_TRACKING_URI", servers.mlflow, "database")
    for door in (("flows.train",), ("flows.predict", str(white), "--out", str(tmp_path / "o.csv"))):
        said = ended(workspace, servers, *door)
        refused(servers, *said, "PREFECT_API_URL", servers.prefect, "database")
    direct = servers.address("psycopg", "mlflow")
    said = ended(workspace, servers, "graftline", "models", MLFLOW_TRACKING_URI=direct)
    refused(servers, *said, "MLFLOW_TRACKING_URI", f"{HOST}:{servers.port}", "nothing answers")

    servers.start_database()
    with servers.store_stopped():
        shutil.rmtree(workspace.var / "models", ignore_errors=True)
        for door in (doors[0], ("flows.train",)):
            said = ended(workspace, servers, *door)
            refused(servers, *said, "MLFLOW_TRACKING_URI", servers.mlflow, "object store")

    # What was trained is taken up, and registered.
    assert "version 2 was promoted over version 1" in run(workspace, servers, "flows.train")
    assert ran(workspace) == [*trained, "train", "evaluate", "export"]


def refused(servers: Team, code: int, said: str, *words: str) -> None:
    """That a command has ended as one that the user can mend, with these words and no secret."""
    assert code == 2, said
    assert "Traceback" not in said and "  do: " in said, said
    for word in words:
        assert word in said, (word, said)
    for secret in servers.secrets:
        assert secret not in said


def ended(
    workspace: Workspace, servers: Team, module: str, *arguments: str, **environment: str
) -> tuple[int, str]:
    known = {**servers.of_clients, **environment}
    return toys.ended(
        toys.start(workspace, sys.executable, "-m", module, *arguments, environment=known)
    )


def run(workspace: Workspace, servers: Team, module: str, *arguments: str) -> str:
    code, said = ended(workspace, servers, module, *arguments)
    assert code == 0, said
    return said


def commit_and_push(workspace: Workspace, servers: Team) -> None:
    for command in (["git", "add", "-A"], ["git", "commit", "-qm", "run"]):
        subprocess.run(command, cwd=workspace.root, check=True)
    run(workspace, servers, "dvc", "push")


def served(workspace: Workspace, servers: Team) -> str:
    """What ``graftline serve`` says, once it answers."""
    command = (sys.executable, "-u", "-m", "graftline", "serve", "--port", "0")
    process = toys.start(workspace, *command, environment=servers.of_clients)
    assert process.stdout is not None
    said = ""
    for line in process.stdout:
        said += line
        if "Ctrl-C" in line:
            break
    found = re.search(r"page +(http://127\.0\.0\.1:\d+)/", said)
    assert found is not None, said
    with urlopen(f"{found[1]}/health") as answer:
        assert json.load(answer)["status"] == "ok"
    process.terminate()
    process.communicate()
    assert "graftline 2, the champion" in said, said
    return said
