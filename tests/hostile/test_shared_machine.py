"""What another user of the machine finds while ``make up`` runs, if the umask closes nothing.

The toy checkout is real to Prefect, MLflow and DVC. Everything is looked at from outside: sockets,
files, modes, command lines. No second account is needed: a socket does not know who asks, and the
modes say what another one could open.
"""

from __future__ import annotations

import base64
import http.client
import ipaddress
import json
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from graftline.core.private import login, login_file
from graftline.core.workspace import Workspace
from graftline.operations.names_on_servers import name_on_servers, with_project
from graftline.orchestration.services import MARK
from tests import histories
from tests.flows import toy
from tests.hostile.stranger import ask, ask_again

pytestmark = pytest.mark.slow
LIMIT_S = 1800.0


def run(workspace: Workspace, umask: int, *arguments: str, limit_s: float = LIMIT_S) -> str:
    environment = toy.environment({})
    for name in ("PREFECT_HOME", "PREFECT_API_URL", "PREFECT_API_AUTH_STRING"):
        environment.pop(name, None)
    done = subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=workspace.root,
        env=environment,
        capture_output=True,
        text=True,
        timeout=limit_s,
        check=False,
        umask=umask,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    folder = tmp_path_factory.mktemp("shared")
    workspace = toy.make(folder / "checkout", histories.make_template(folder))
    text = (toy.CHECKOUT / "prefect.yaml").read_text(encoding="utf-8")
    (workspace.root / "prefect.yaml").write_text(text)
    return workspace


@pytest.fixture(scope="module")
def addresses(checkout: Workspace) -> Iterator[dict[str, str]]:
    """What ``make up`` prints, by the first word of its lines; the worker has run a flow since."""
    ports = ("--prefect-port", "0", "--mlflow-port", "0")
    said = run(checkout, 0o000, "graftline", "up", *ports)
    found = dict(line.split(maxsplit=1) for line in said.splitlines() if line)
    try:
        # A user who has the login is served as ever, and so is the worker.
        assert ended(found["Prefect"], checkout, started(found["Prefect"], checkout)) == "COMPLETED"
        yield found
    finally:
        run(checkout, 0o000, "graftline", "down")


def as_owner(workspace: Workspace) -> dict[str, str]:
    token = base64.b64encode(login(login_file(workspace)).encode()).decode()
    return {"Content-Type": "application/json", "Authorization": f"Basic {token}"}


def started(prefect: str, workspace: Workspace) -> str:
    """The id of a run of the flow ``watch`` that was asked for now."""
    headers = as_owner(workspace)
    name = f"watch/{with_project('source', name_on_servers(workspace))}"
    deployment = ask_again(prefect, "GET", f"/api/deployments/name/{name}", None, headers)
    path = f"/api/deployments/{json.loads(deployment.body)['id']}/create_flow_run"
    wanted = {"state": {"type": "SCHEDULED"}}
    answer = ask_again(prefect, "POST", path, wanted, headers)
    assert answer.status in (200, 201), answer
    return str(json.loads(answer.body)["id"])


def ended(prefect: str, workspace: Workspace, flow_run_id: str) -> str:
    """How a flow run has ended, once it has."""
    until = time.monotonic() + LIMIT_S
    while time.monotonic() < until:
        path = f"/api/flow_runs/{flow_run_id}"
        answer = ask_again(prefect, "GET", path, None, as_owner(workspace))
        state = str(json.loads(answer.body)["state_type"])
        if state in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED"):
            return state
        time.sleep(1)
    raise TimeoutError(f"the run did not end within {LIMIT_S:g} s")


def processes(workspace: Workspace) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            environment = process.environ()
            if str(workspace.root) in (
                environment.get("PREFECT_HOME", "").removesuffix("/var/prefect"),
                environment.get(MARK, "").partition("/var/")[0],
            ):
                found.append(process)
        except psutil.Error:
            continue
    return found


def listening(workspace: Workspace) -> dict[tuple[str, int], str]:
    return {
        (one.laddr.ip, one.laddr.port): " ".join(process.cmdline())
        for process in processes(workspace)
        for one in process.net_connections()
        if one.laddr and (one.status == psutil.CONN_LISTEN or one.type.name == "SOCK_DGRAM")
    }


def test_all_sockets_are_known_and_on_loopback(
    checkout: Workspace, addresses: dict[str, str]
) -> None:
    found = listening(checkout)
    assert all(ipaddress.ip_address(host).is_loopback for host, _ in found)
    counts = {
        words: sum(words in command for command in found.values())
        for words in ("server start", "graftline.registry.tracking.pages", "worker start")
    }
    assert sum(counts.values()) == len(found)
    assert counts["server start"] == counts["graftline.registry.tracking.pages"] == 1
    # Its health, and Prefect's own lines to its runs.
    assert counts["worker start"] >= 2
    assert not [
        one
        for process in processes(checkout)
        for one in process.net_connections("unix")
        if str(one.laddr).startswith("/")
    ]


def test_nobody_is_let_in_without_the_login(addresses: dict[str, str]) -> None:
    assert ask(addresses["Prefect"], "POST", "/api/flows/", {"name": "f"}).status == 401
    assert ask(addresses["Prefect"], "POST", "/api/deployments/", {}).status == 401
    alias = {"name": "graftline", "alias": "champion", "version": "1"}
    path = "/api/2.0/mlflow/registered-models/alias"
    assert ask(addresses["MLflow"], "POST", path, alias).status == 401


def test_the_worker_tells_its_health_and_nothing_else(
    checkout: Workspace, addresses: dict[str, str]
) -> None:
    silent = []
    for (host, port), command in listening(checkout).items():
        if "worker start" not in command:
            continue
        address = f"http://{host}:{port}"
        try:
            health = ask(address, "GET", "/health")
        except http.client.RemoteDisconnected:
            silent.append(address)
            continue
        assert (health.status, health.body) == (200, b'{"message":"OK"}')
        for verb in ("POST", "PUT", "DELETE", "PATCH"):
            for path in ("/health", "/shutdown", "/", "/api/flows/"):
                assert ask(address, verb, path, {}).status in (404, 405)
    # Prefect's own lines between the worker and its runs: they hang up on who has no run's token.
    assert silent
    for line in silent:
        for said in (b"", b"x" * 32 + b"\n", b"0" * 4096):
            with pytest.raises((http.client.RemoteDisconnected, ConnectionError)):
                ask(line, "POST", "/", said)


def test_var_is_closed_and_the_login_is_in_one_file_alone(
    checkout: Workspace, addresses: dict[str, str]
) -> None:
    assert stat.S_IMODE(checkout.var.stat().st_mode) == 0o700
    file = login_file(checkout)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    password = login(file).partition(":")[2]
    spellings = [password.encode(), base64.b64encode(login(file).encode())]
    holding = [
        path
        for path in checkout.root.rglob("*")
        if path.is_file() and any(one in path.read_bytes() for one in spellings)
    ]
    assert holding == [file]
    for process in processes(checkout):
        assert password not in " ".join(process.cmdline())
    assert addresses["log"].endswith(f"cat {file}")


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_a_run_opens_nothing_that_the_umask_closes_and_closes_nothing_else(
    tmp_path: Path, umask: int
) -> None:
    workspace = toy.make(tmp_path / "checkout", histories.make_template(tmp_path))
    before = {path for path in workspace.root.rglob("*") if not path.is_symlink()}
    run(workspace, umask, "flows.train")
    # The toy's model is a copy of a file of the tests, with its mode.
    copied = {workspace.trained / "model.tflite"}
    made = [
        path
        for path in workspace.root.rglob("*")
        if path not in before | copied and not path.is_symlink() and ".git" not in path.parts
    ]
    assert workspace.trained / "trained.json" in made
    assert stat.S_IMODE(workspace.var.stat().st_mode) == 0o700
    for path in made:
        mode = stat.S_IMODE(path.stat().st_mode)
        inside = path.relative_to(workspace.root).parts
        if inside[0] == "var" or inside[:2] == (".dvc", "tmp"):
            continue
        if inside[:2] == (".dvc", "cache"):
            # DVC takes the right to write from what it keeps, and closes the folders by the umask.
            assert path.is_file() or mode == 0o777 & ~umask, path
            continue
        assert mode == (0o777 if path.is_dir() else 0o666) & ~umask, path
