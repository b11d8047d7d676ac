"""Users of loopback without the login get nothing from the servers that Graftline starts.

The attack: three requests to Prefect (a flow, a deployment whose pull step is a shell command, a
run of it) had the worker run that command as the owner; MLflow let aliases be moved and files be
written. Real servers, asked as another user of the machine would.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from mlflow import MlflowClient

from graftline.core.private import login, login_file
from graftline.core.workspace import Workspace
from graftline.operations.servers import (
    Server,
    client_environment,
    join,
    leave,
    mlflow_server,
    prefect_server,
)
from graftline.registry import tracking
from tests import histories
from tests.hostile.stranger import Answer, ask, ask_again

POOL = "graftline"
DISGUISES = [
    pytest.param({"Content-Type": "application/json"}, id="plain"),
    pytest.param({}, id="no content type"),
    pytest.param({"Content-Type": ""}, id="empty content type"),
    pytest.param({"Content-Type": "text/plain", "Origin": "null"}, id="a page from a file"),
    pytest.param(
        {"Content-Type": "application/json", "Origin": "http://evil.example"}, id="foreign page"
    ),
    pytest.param(
        {"Content-Type": "application/json", "Origin": "http://127.0.0.1:9"}, id="another port"
    ),
    pytest.param(
        {"Content-Type": "application/json", "Host": "evil.example"}, id="a name that leads here"
    ),
    pytest.param(
        {"Content-Type": "application/json", "Host": "127.0.0.1/api/health?"}, id="forged host"
    ),
    pytest.param(
        {"Content-Type": "application/json", "Authorization": "Basic Z3JhZnRsaW5lOg=="},
        id="no password",
    ),
    pytest.param(
        {"Content-Type": "application/json", "Authorization": "Bearer x"}, id="a token of no one"
    ),
]


@pytest.fixture(scope="module")
def prefect(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = prefect_server(Workspace(tmp_path_factory.mktemp("prefect")), preferred_port=0)
    # Its own database: the other tests' has runs that are counted.
    server = replace(
        server,
        environment={**server.environment, "PREFECT_HOME": str(server.folder)},
        database=("prefect", server.folder / "prefect.db"),
    )
    join(server, limit_s=600.0)
    yield server
    leave(server)


@pytest.fixture(scope="module")
def prefect_address(prefect: Server) -> str:
    return join(prefect, limit_s=600.0)


def owner(server: Server) -> dict[str, str]:
    assert server.login_file is not None
    token = base64.b64encode(login(server.login_file).encode()).decode()
    return {"Content-Type": "application/json", "Authorization": f"Basic {token}"}


def steps(address: str, headers: dict[str, str], flow_id: str, deployment_id: str) -> list[Answer]:
    """The three requests of the attack, each sent whatever became of the one before."""
    pull = [{"prefect.deployments.steps.run_shell_script": {"script": "touch /tmp/owned"}}]
    deployment = {
        "name": "d",
        "flow_id": flow_id,
        "work_pool_name": POOL,
        "pull_steps": pull,
        "entrypoint": "x.py:x",
    }
    return [
        ask(address, "POST", "/api/flows/", {"name": "f"}, headers),
        ask(address, "POST", "/api/deployments/", deployment, headers),
        ask(address, "POST", f"/api/deployments/{deployment_id}/create_flow_run", {}, headers),
    ]


@pytest.mark.parametrize("headers", DISGUISES)
def test_no_step_of_the_attack_gets_through(
    prefect: Server, prefect_address: str, headers: dict[str, str]
) -> None:
    some_id = "00000000-0000-4000-8000-000000000000"
    answers = steps(prefect_address, headers, some_id, some_id)
    # A Host that is none is refused before anything else.
    assert {one.status for one in answers} <= {400, 401}
    assert answers[0].status == 401 or "/" in headers["Host"]
    for one in answers:
        assert "access-control-allow-origin" not in one.headers
    found = ask_again(prefect_address, "POST", "/api/flows/filter", {}, owner(prefect))
    assert [one["name"] for one in json.loads(found.body) if one["name"] == "f"] == []


def test_the_same_requests_of_the_owner_are_taken(prefect: Server, prefect_address: str) -> None:
    headers = owner(prefect)
    ask_again(
        prefect_address, "POST", "/api/work_pools/", {"name": POOL, "type": "process"}, headers
    )
    made = ask_again(prefect_address, "POST", "/api/flows/", {"name": "mine"}, headers)
    flow_id = json.loads(made.body)["id"]
    deployment = {"name": "d", "flow_id": flow_id, "work_pool_name": POOL, "entrypoint": "x.py:x"}
    made = ask_again(prefect_address, "POST", "/api/deployments/", deployment, headers)
    assert made.status in (200, 201)
    path = f"/api/deployments/{json.loads(made.body)['id']}/create_flow_run"
    assert ask_again(prefect_address, "POST", path, {}, headers).status in (200, 201)


def test_no_other_page_may_read_prefects_answers(prefect_address: str) -> None:
    wanted = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "a"}
    for origin in ("http://evil.example", "null", "http://127.0.0.1:9", "http://localhost:4200"):
        answer = ask(prefect_address, "OPTIONS", "/api/flows/", None, {"Origin": origin} | wanted)
        assert answer.status == 400
        assert "access-control-allow-origin" not in answer.headers
    own = {"Origin": prefect_address} | wanted
    answer = ask(prefect_address, "OPTIONS", "/api/flows/", None, own)
    assert answer.headers["access-control-allow-origin"] == prefect_address


OPEN = {"/api/health": b"true", "/api/ready": b'{"message":"OK"}'}
"""What Prefect answers to everybody, besides its page and the description of its API."""


def paths_of_prefect(prefect: Server, address: str) -> list[tuple[str, str]]:
    described = json.loads(ask(address, "GET", "/api/openapi.json", None, owner(prefect)).body)
    found = [
        (verb.upper(), f"/api{path}".replace("{", "").replace("}", ""))
        for path, verbs in described["paths"].items()
        for verb in verbs
    ]
    assert len(found) > 100
    return found


def test_nothing_of_the_api_is_open_but_its_health(prefect: Server, prefect_address: str) -> None:
    for verb, path in paths_of_prefect(prefect, prefect_address):
        body = {} if verb in ("POST", "PUT", "PATCH") else None
        answer = ask(prefect_address, verb, path, body)
        if path in OPEN:
            assert (answer.status, answer.body) == (200, OPEN[path])
        else:
            assert answer.status == 401, (verb, path)


def test_what_is_open_does_not_tell_the_login(prefect: Server, prefect_address: str) -> None:
    assert prefect.login_file is not None
    secret = login(prefect.login_file)
    spellings = [secret, secret.partition(":")[2], base64.b64encode(secret.encode()).decode()]
    for path in ("/", "/ui-settings", "/api/health", "/api/ready", "/docs", "/openapi.json"):
        answer = ask(prefect_address, "GET", path)
        assert answer.status == 200
        assert not [one for one in spellings if one.encode() in answer.body]
    settings = json.loads(ask(prefect_address, "GET", "/ui-settings").body)
    # The page asks for the login, and then asks its own server.
    assert settings["auth"] == "BASIC"
    assert settings["api_url"] == f"{prefect_address}/api"
    # Not even who has it can have it shown.
    shown = ask(prefect_address, "GET", "/api/admin/settings", None, owner(prefect))
    assert shown.status == 200
    assert not [one for one in spellings if one.encode() in shown.body]


SOCKETS = (
    "/api/events/in",
    "/api/events/out",
    "/api/logs/out",
    "/api/task_runs/subscriptions/scheduled",
    f"/api/work_pools/{POOL}/workers/connect",
)


async def hello(address: str, path: str, token: str | None, *, polite: bool) -> dict[str, Any]:
    """What a WebSocket answers to a greeting; an empty record if it hangs up."""
    import websockets

    url = address.replace("http://", "ws://") + path
    protocols = [websockets.Subprotocol("prefect")] if polite else None
    try:
        async with websockets.connect(url, subprotocols=protocols) as socket:
            await socket.send(json.dumps({"type": "auth", "token": token}))
            return dict(json.loads(await asyncio.wait_for(socket.recv(), 30)))
    except websockets.WebSocketException:
        return {}


@pytest.mark.parametrize("path", SOCKETS)
def test_events_logs_and_the_workers_channel_are_closed(
    prefect: Server, prefect_address: str, path: str
) -> None:
    for token in (None, "", "graftline:", "x"):
        for polite in (True, False):
            assert asyncio.run(hello(prefect_address, path, token, polite=polite)) == {}
    assert prefect.login_file is not None
    secret = login(prefect.login_file)
    assert asyncio.run(hello(prefect_address, path, secret, polite=True)) == {
        "type": "auth_success"
    }


def test_every_websocket_of_prefect_is_among_them() -> None:
    from prefect.server.api.server import API_ROUTERS

    found = {
        f"/api{route.path}".replace("{work_pool_name}", POOL)
        for router in API_ROUTERS
        for route in router.routes
        if type(route).__name__ == "APIWebSocketRoute"
    }
    assert found == set(SOCKETS)


def test_the_login_is_in_no_command_line(prefect: Server, prefect_address: str) -> None:
    assert prefect.login_file is not None
    password = login(prefect.login_file).partition(":")[2]
    shown = []
    for process in psutil.process_iter():
        try:
            shown += process.cmdline()
        except psutil.Error:
            continue
    assert any("prefect" in one for one in shown)
    assert not [one for one in shown if password in one]


def test_a_login_of_the_users_own_is_not_told_to_our_server(
    prefect: Server, prefect_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from graftline.operations.servers import _environment

    for name in ("PREFECT_API_AUTH_STRING", "PREFECT_API_KEY"):
        monkeypatch.setenv(name, "the-users-own")
    assert "the-users-own" not in _environment(prefect, 1).values()
    known = client_environment(prefect, prefect_address)
    assert prefect.login_file is not None
    assert known == {
        "PREFECT_API_URL": f"{prefect_address}/api",
        "PREFECT_API_AUTH_STRING": login(prefect.login_file),
    }


# MLflow ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A store with a run, a picture and a registered model with two versions."""
    folder = tmp_path_factory.mktemp("mlflow")
    workspace = Workspace(folder / "checkout")
    histories.use_template(histories.make_template(folder), workspace)
    client, experiment = tracking.store.open_client(tracking.configure(workspace))
    run = client.create_run(experiment)
    (folder / "picture.png").write_bytes(b"\x89PNG")
    client.log_artifact(run.info.run_id, str(folder / "picture.png"), "evaluation")
    client.create_registered_model("toy")
    for _ in range(2):
        client.create_model_version("toy", f"{run.info.artifact_uri}/evaluation")
    client.set_registered_model_alias("toy", "champion", "2")
    client.set_tag(run.info.run_id, "mark", "x")
    return workspace


@pytest.fixture(scope="module")
def mlflow(history: Workspace) -> Iterator[str]:
    server = mlflow_server(history, preferred_port=0)
    yield join(server, limit_s=600.0)
    leave(server)


@pytest.fixture
def client(
    history: Workspace, mlflow: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[MlflowClient]:
    """As a user's own program would ask, let in by the environment."""
    for name, value in histories.let_in(history).items():
        monkeypatch.setenv(name, value)
    yield MlflowClient(mlflow)


def as_owner(history: Workspace) -> dict[str, str]:
    token = base64.b64encode(login(login_file(history)).encode()).decode()
    return {"Content-Type": "application/json", "Authorization": f"Basic {token}"}


MOVES = [
    ("POST", "/api/2.0/mlflow/registered-models/alias"),
    ("POST", "/ajax-api/2.0/mlflow/registered-models/alias"),
    ("PUT", "/api/2.0/mlflow-artifacts/artifacts/evil.txt"),
    ("PUT", "/ajax-api/2.0/mlflow-artifacts/artifacts/evil.txt"),
    ("POST", "/ajax-api/2.0/mlflow/upload-artifact?run_uuid=x&path=evil.txt"),
    ("POST", "/api/2.0/mlflow/experiments/create"),
    ("POST", "/graphql"),
    ("POST", "/ajax-api/3.0/mlflow/assistant/message"),
    ("POST", "/gateway/x/mlflow/invocations"),
    ("GET", "/api/2.0/mlflow/experiments/search?max_results=1"),
    ("GET", "/get-artifact?path=evaluation/picture.png&run_uuid=x"),
    ("GET", "/version"),
    ("GET", "/"),
]


@pytest.mark.parametrize("headers", DISGUISES)
def test_nothing_of_mlflow_is_open(
    history: Workspace, mlflow: str, headers: dict[str, str]
) -> None:
    alias = {"name": "toy", "alias": "champion", "version": "1"}
    for verb, path in MOVES:
        answer = ask(mlflow, verb, path, alias if verb != "GET" else None, headers)
        expected = 403 if {"Origin", "Host"} & set(headers) else 401
        assert answer.status == expected, (verb, path)
        assert "access-control-allow-origin" not in answer.headers
    client = histories.client_of(history)
    assert str(client.get_model_version_by_alias("toy", "champion").version) == "2"
    assert not list(history.root.rglob("evil.txt"))


def test_a_page_on_another_port_cannot_use_what_the_browser_knows(
    history: Workspace, mlflow: str
) -> None:
    # A browser sends the password that it keeps with requests of such a page, too.
    for origin in ("http://evil.example", "http://127.0.0.1:9", "http://localhost:9", "null"):
        headers = as_owner(history) | {"Origin": origin}
        for verb, path in MOVES:
            assert ask(mlflow, verb, path, {} if verb != "GET" else None, headers).status == 403
    by_name = as_owner(history) | {"Host": "evil.example"}
    assert ask(mlflow, "GET", "/", None, by_name).status == 403


def test_mlflows_health_is_one_word(mlflow: str) -> None:
    answer = ask(mlflow, "GET", "/health")
    assert (answer.status, answer.body) == (200, b"OK")
    assert ask(mlflow, "POST", "/health").status == 401
    assert ask(mlflow, "GET", "/health/").status == 401
    assert ask(mlflow, "GET", "/health", None, {"Host": "evil.example"}).status == 403


def test_a_browser_is_asked_for_the_login_and_any_name_will_do(
    history: Workspace, mlflow: str
) -> None:
    refused = ask(mlflow, "GET", "/")
    assert refused.headers["www-authenticate"].startswith('Basic realm="Graftline')
    whole = login(login_file(history))
    for given in (whole, f"me:{whole}", f":{whole}", f"me:{whole.partition(':')[2]}"):
        token = base64.b64encode(given.encode()).decode()
        page = ask(mlflow, "GET", "/", None, {"Authorization": f"Basic {token}"})
        assert page.status == 200
        assert b"<title>MLflow</title>" in page.body
    for given in ("me:", "graftline", f"{whole}x", f"me:{whole[:-1]}", "\xff:\xff"):
        token = base64.b64encode(given.encode("latin-1")).decode()
        assert ask(mlflow, "GET", "/", None, {"Authorization": f"Basic {token}"}).status == 401
    for header in ("Basic", "Basic !!", "Basic =", "Digest x", "Basic " + "A" * 8000):
        assert ask(mlflow, "GET", "/", None, {"Authorization": header}).status == 401


def test_the_owner_sees_pictures_and_moves_aliases(
    history: Workspace, mlflow: str, client: MlflowClient
) -> None:
    [run] = histories.runs_of(history)
    path = f"/get-artifact?path=evaluation/picture.png&run_uuid={run.info.run_id}"
    assert ask(mlflow, "GET", path, None, as_owner(history)).body == b"\x89PNG"
    assert client.get_run(run.info.run_id).data.tags["mark"] == "x"
    client.set_registered_model_alias("toy", "spare", "1")
    assert str(client.get_model_version_by_alias("toy", "spare").version) == "1"
    own = as_owner(history) | {"Origin": mlflow}
    search = {"max_results": 1}
    asked = ask(mlflow, "POST", "/ajax-api/2.0/mlflow/experiments/search", search, own)
    assert asked.status == 200


def test_not_even_the_owner_writes_files_by_a_proxy(history: Workspace, mlflow: str) -> None:
    for verb in ("GET", "PUT", "DELETE"):
        path = "/api/2.0/mlflow-artifacts/artifacts/evil.txt"
        assert ask(mlflow, verb, path, b"x", as_owner(history)).status in (404, 503)
    assert not list(Path(history.root).rglob("evil.txt"))
    assert not list(Path.cwd().glob("mlartifacts"))
