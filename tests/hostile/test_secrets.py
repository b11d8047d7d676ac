"""What is secret in the environment is seen nowhere: not in files, databases, pages or messages."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from graftline.core.redaction import without_secrets
from graftline.operations.servers import HOST, Server, join, leave
from tests import histories
from tests.flows import toy
from tests.hostile.marked import marked

LIMIT_S = 600.0
CANARIES = {
    "MLFLOW_TRACKING_USERNAME": "canary-mlflow-user",
    "MLFLOW_TRACKING_PASSWORD": "canary-mlflow-password",
    "PREFECT_API_KEY": "canary-prefect-key",
    "PREFECT_API_AUTH_STRING": "canary-prefect:auth+string",
    "AWS_ACCESS_KEY_ID": "canary-aws-id",
    "AWS_SECRET_ACCESS_KEY": "canary/aws+secret",
    "AWS_SESSION_TOKEN": "canary-aws-token",
}
IN_ADDRESS = ("canary-address-user", "canary-address-password")


def spellings() -> list[bytes]:
    """The secrets as they are, and as others write them."""
    found = []
    for secret in (*CANARIES.values(), *IN_ADDRESS, ":".join(IN_ADDRESS)):
        plain = secret.encode()
        found += [plain, quote(secret, safe="").encode(), base64.b64encode(plain)]
    return found


def leaks(folder: Path) -> list[str]:
    """The files that hold a secret, with the secret."""
    found = []
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            data = path.read_bytes()
            found += [f"{path}: {one.decode()}" for one in spellings() if one in data]
    return found


def test_the_look_itself_finds_them(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(base64.b64encode(b"canary-mlflow-password"))
    assert leaks(tmp_path)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://u:p@host/x", "https://***@host/x"),
        ("at https://token@host:5000/api, twice", "at https://***@host:5000/api, twice"),
        ("postgresql+psycopg2://u:p%40@db/m", "postgresql+psycopg2://***@db/m"),
        ("s3://b/k?X-Amz-Signature=ab12&v=1", "s3://b/k?X-Amz-Signature=***&v=1"),
        ("http://h/?access_token=a.b-c#top", "http://h/?access_token=***"),
        ("http://127.0.0.1:5000", "http://127.0.0.1:5000"),
        ("sqlite:////var/mlflow.db", "sqlite:////var/mlflow.db"),
        ("mail me@home: see https://host/a", "mail me@home: see https://host/a"),
    ],
)
def test_addresses_are_shown_without_their_secrets(text: str, shown: str) -> None:
    assert without_secrets(text) == shown


def test_a_token_in_the_address_of_a_store_that_does_not_answer(tmp_path: Path) -> None:
    from graftline.core.errors import TrackingError
    from graftline.registry.tracking.store import Store, open_client

    # A token stands where a name would, without a password behind it.
    store = Store("http://canary-token@127.0.0.1:9", "x", tmp_path, None)
    with pytest.raises(TrackingError) as caught:
        open_client(store)
    assert "canary" not in str(caught.value)
    assert "http://***@127.0.0.1:9" in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("variable", ["MLFLOW_TRACKING_URI", "PREFECT_API_URL"])
def test_a_server_that_does_not_answer(tmp_path: Path, variable: str) -> None:
    workspace = toy.make(tmp_path / "checkout", histories.make_template(tmp_path))
    address = f"http://{':'.join(IN_ADDRESS)}@{HOST}:9/api"
    environment = {"PYTHONPATH": str(toy.CHECKOUT), **CANARIES, variable: address}
    with marked(workspace.root, environment, "-m", "flows.train") as one:
        assert one.watch(LIMIT_S) == 2
    said = (tmp_path / "said.txt").read_text()
    assert f"http://***@{HOST}:9" in said
    assert leaks(tmp_path) == []


@pytest.fixture
def mlflow_address(tmp_path: Path) -> Iterator[str]:
    """A real MLflow server, whose database is looked through afterwards."""
    folder = tmp_path / "server"
    folder.mkdir()
    database = histories.make_template(folder)
    arguments = ("mlflow", "server", "--host", HOST, "--port", "{port}", "--workers", "1")
    arguments += ("--backend-store-uri", f"sqlite:///{database}")
    arguments += ("--artifacts-destination", str(folder / "artifacts"))
    off = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    server = Server("MLflow", folder, arguments, "/health", 0, off)
    yield join(server)
    leave(server)


@pytest.mark.slow
def test_a_whole_run_leaves_no_secret_anywhere(tmp_path: Path, mlflow_address: str) -> None:
    workspace = toy.make(tmp_path / "checkout", histories.make_template(tmp_path))
    address = mlflow_address.replace("://", f"://{':'.join(IN_ADDRESS)}@")
    environment = {
        "PYTHONPATH": str(toy.CHECKOUT),
        **CANARIES,
        "MLFLOW_TRACKING_URI": address,
        "PREFECT_HOME": str(workspace.var / "prefect"),
    }
    with marked(workspace.root, environment, "-m", "flows.train", "--debug") as one:
        code = one.watch(LIMIT_S)
    said = (tmp_path / "said.txt").read_text()
    assert code == 0, said
    # The run did reach both servers.
    assert (workspace.var / "prefect" / "prefect.db").stat().st_size > 0
    assert list((tmp_path / "server" / "artifacts").rglob("model.tflite"))
    assert leaks(tmp_path) == []


@pytest.mark.slow
def test_status_and_ui_name_servers_without_their_secrets(tmp_path: Path) -> None:
    address = f"http://{':'.join(IN_ADDRESS)}@{HOST}:9"
    environment = {
        **os.environ,
        "MLFLOW_TRACKING_URI": address,
        "PREFECT_API_URL": f"{address}/api",
    }
    done = subprocess.run(
        [sys.executable, "-m", "graftline", "ui", "-C", str(tmp_path)],
        env=environment,
        cwd=toy.CHECKOUT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"http://***@{HOST}:9" in done.stdout
    assert "canary" not in done.stdout + done.stderr
