from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from graftline.core.private import login, login_file
from graftline.core.processes import end_group
from graftline.core.workspace import Workspace
from graftline.operations import servers, ui
from graftline.operations.servers import (
    Server,
    ServerRecord,
    alive,
    answers,
    mlflow_server,
    prefect_server,
)

# The real page servers take many seconds to start; how they are kept is the same for any.
SERVES = """
import signal
import sys
from pathlib import Path
from graftline.operations import ui
from graftline.operations.servers import Server
from graftline.core.workspace import Workspace

# A shell's background job ignores Ctrl-C, and so would all that it starts.
signal.signal(signal.SIGINT, signal.default_int_handler)
root = Path(sys.argv[1])
command = ("http.server", "--bind", "127.0.0.1", "{port}")
own = [Server(name, root / name, command, "/", 0) for name in ("Prefect", "MLflow")]
ui._wanted = lambda workspace: (own, [])
sys.exit(ui.run_ui(Workspace(root)))
"""


def toy(root: Path, name: str) -> Server:
    return Server(name, root / name, (), "/", 0)


@contextmanager
def serving(root: Path) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    with subprocess.Popen(
        [sys.executable, "-c", SERVES, str(root)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout
        lines = [process.stdout.readline() for _ in range(3)]
        try:
            yield process, lines
        finally:
            process.kill()
            for name in ("Prefect", "MLflow"):
                if record := ServerRecord.find(toy(root, name).record_file):
                    end_group(record.process)


@pytest.mark.kill
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_both_serve_until_they_are_stopped(tmp_path: Path, number: signal.Signals) -> None:
    with serving(tmp_path) as (process, lines):
        assert [line.split()[0] for line in lines] == ["Prefect", "MLflow", "Ctrl-C"]
        for line in lines[:2]:
            assert answers("127.0.0.1", int(line.strip().rpartition(":")[2]), "/")
        process.send_signal(number)
        assert process.wait(timeout=30) == 0
    assert not alive(toy(tmp_path, "Prefect"))
    assert not alive(toy(tmp_path, "MLflow"))


@pytest.mark.kill
def test_one_that_dies_is_named_and_the_other_is_stopped(tmp_path: Path) -> None:
    with serving(tmp_path) as (process, _):
        record = ServerRecord.find(toy(tmp_path, "MLflow").record_file)
        assert record is not None
        end_group(record.process)
        said, _ = process.communicate(timeout=30)
        assert process.returncode == 1
    assert "the MLflow server has stopped by itself" in said
    assert not alive(toy(tmp_path, "Prefect"))


def test_servers_that_the_user_has_chosen_are_named_and_not_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://prefect.example/api")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow.example")
    assert ui.run_ui(Workspace(tmp_path)) == 0
    said = capsys.readouterr().out
    assert said.split() == ["Prefect", "http://prefect.example", "MLflow", "http://mlflow.example"]
    assert not (tmp_path / "var").exists()


def test_both_listen_on_this_machine_alone(tmp_path: Path) -> None:
    for server in (prefect_server(Workspace(tmp_path)), mlflow_server(Workspace(tmp_path))):
        arguments = server.arguments
        assert arguments[arguments.index("--host") + 1] == "127.0.0.1"


def test_prefects_page_asks_its_own_server(tmp_path: Path) -> None:
    environment = prefect_server(Workspace(tmp_path)).environment
    assert environment["PREFECT_SERVER_UI_API_URL"] == "http://127.0.0.1:{port}/api"


def test_the_address_of_the_store_is_in_no_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://ann:canary/w@db.example/x")
    server = mlflow_server(Workspace(tmp_path))
    assert not [one for one in server.arguments if "ann" in one or "canary" in one or "db" in one]
    # Inherited, as it was set.
    assert servers._environment(server, 1)["MLFLOW_TRACKING_URI"] == (
        "postgresql://ann:canary/w@db.example/x"
    )


def test_both_ask_for_the_same_login_which_stands_in_one_file(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    secret = login(login_file(workspace))
    for server in (prefect_server(workspace), mlflow_server(workspace)):
        assert servers._environment(server, 1)[server.login_variable] == secret
        assert not [one for one in server.arguments if secret.partition(":")[2] in one]


def test_naming_a_server_makes_no_login(tmp_path: Path) -> None:
    for server in (prefect_server(Workspace(tmp_path)), mlflow_server(Workspace(tmp_path))):
        assert not alive(server)
    assert list(tmp_path.iterdir()) == []


def test_prefects_page_alone_may_read_its_answers(tmp_path: Path) -> None:
    environment = prefect_server(Workspace(tmp_path)).environment
    assert environment["PREFECT_SERVER_API_CORS_ALLOWED_ORIGINS"] == "http://127.0.0.1:{port}"
