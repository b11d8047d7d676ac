"""What is well and what is not, with what helps; exit code 0 only if all is well."""

from __future__ import annotations

import http.server
import json
import shutil
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import NamedTuple

import pytest
from ruamel.yaml import YAML

from graftline.cli.main import main
from graftline.compute import devices
from graftline.core.errors import MissingPackageError
from graftline.core.installing import EXTRAS
from graftline.core.workspace import Workspace
from graftline.network.runners import choosing
from graftline.operations import doctor
from graftline.operations.doctor import examine

FILES = ("params.yaml", "dvc.yaml", "graftline.lock", "data/no-files", ".dvcignore")


@pytest.fixture
def project(tmp_path: Path, checkout: Path) -> Workspace:
    root = tmp_path / "project"
    (root / "data").mkdir(parents=True)
    for name in FILES:
        shutil.copy(checkout / name, root / name)
    text = (root / "params.yaml").read_text().replace("stanford-dogs ", "random ")
    (root / "params.yaml").write_text(text)
    for command in (
        ["git", "init", "-q"],
        [sys.executable, "-m", "dvc", "init", "-q"],
        ["git", "add", "--all"],
        ["git", "commit", "-qm", "first"],
    ):
        subprocess.run(command, cwd=root, check=True, capture_output=True)
    return Workspace(root)


def found(workspace: Workspace) -> dict[str, doctor.Finding]:
    return {one.name: one for one in examine(workspace).findings}


class Usage(NamedTuple):
    total: int
    used: int
    free: int


def test_what_is_well_and_what_is_not(
    project: Workspace, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["doctor", "-C", str(project.root)]
    assert main([*command, "--json"]) == 0
    findings = json.loads(capsys.readouterr().out)["findings"]
    names = {one["name"] for one in findings}
    assert names == {
        *("versions", "devices", "runners", "engine", "disk", "git", "dvc", "code"),
        *("parameters", "weights", "servers"),
    }

    (project.root / "graftline.lock").write_text("version: 0\nsteps: {}\n")
    (project.root / "params.yaml").write_text("train: 3\n")
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: Usage(10**9, 10**9, 10**6))
    monkeypatch.setattr(doctor, "requires", lambda _: ["numpy>=99", "no-such-package", "dvc"])
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    assert main(command) == 2
    said = " ".join(capsys.readouterr().out.split())
    assert "no-such-package is not installed; numpy 2" in said and "is none of >=99" in said
    assert "0.0 GB free" in said and "dvc gc" in said
    assert "not committed: graftline.lock, params.yaml" in said
    assert "graftline lock, and commit it" in said
    assert "the parameters are not valid" in said
    assert "MLflow at http://127.0.0.1:1 cannot be used: nothing answers" in said
    assert "faults." in said


@pytest.mark.parametrize(
    ("login", "suffix", "told"),
    [
        ("team:right", "/api", None),
        ("team:wrong", "/api", "does not let this client in"),
        (None, "/api", "does not let this client in"),
        ("team:right", "", "is no Prefect API"),
    ],
)
def test_a_prefect_server_is_asked_with_the_login(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    login: str | None,
    suffix: str,
    told: str | None,
) -> None:
    class Prefect(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            let_in = self.headers["Authorization"] == "Basic dGVhbTpyaWdodA=="
            status = 200 if let_in or self.path == "/api/health" else 401
            self.send_response(status if self.path.startswith("/api/") else 404)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("PREFECT_API_AUTH_STRING", raising=False)
    if login is not None:
        monkeypatch.setenv("PREFECT_API_AUTH_STRING", login)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Prefect) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_address[1]}{suffix}"
        wrong = doctor._prefect_problem(Workspace(tmp_path), address)
        server.shutdown()
    assert (wrong and wrong.told) == told


def test_where_the_work_goes_is_told_and_whether_a_scheduler_is_there(
    tmp_path: Path, params_text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def told(engine: str, address: str) -> str:
        changed = params_text.replace("engine: local ", f"engine: {engine} ")
        changed = changed.replace("address: null ", f"address: {address} ")
        (tmp_path / "params.yaml").write_text(changed.replace("workers: null ", "workers: 3 "))
        [finding] = doctor._engine("engine", Workspace(tmp_path))
        return f"{finding.state}: {finding.told}"

    assert told("local", "null") == (
        "well: compute.engine local: 3 threads of the step's own process"
    )
    assert told("dask", "null").endswith("each step starts 3 workers here")
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"tls://127.0.0.1:{server.getsockname()[1]}"
        assert told("dask", address).endswith(f"the scheduler at {address} can be reached")
    assert told("dask", address).startswith(
        f"fault: compute.engine dask: the scheduler at {address}"
    )
    monkeypatch.setitem(EXTRAS, "cluster", ("no_such_module",))
    with pytest.raises(MissingPackageError, match="needs the extra cluster"):
        told("dask", "null")


def test_a_key_that_dvc_would_miss_is_named(
    tmp_path: Path, checkout: Path, params_text: str
) -> None:
    shutil.copy(checkout / "dvc.yaml", tmp_path)
    text = params_text.replace("  device: auto", "  #device: auto")
    (tmp_path / "params.yaml").write_text(text)
    [finding] = doctor._parameters("parameters", Workspace(tmp_path))
    assert finding.state == "fault" and "params.yaml lacks compute.device," in finding.told
    assert finding.do is not None and "graftline upgrade" in finding.do


def test_outside_a_project_it_says_what_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor", "-C", str(tmp_path)]) == 2
    assert "there is no dvc.yaml here" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("compute", "flags", "card", "state", "told"),
    [
        ({}, (), None, "well", "compute.device auto: the cores; compute.precision float32: LiteRT"),
        ({"precision": "auto"}, (), None, "well", "LiteRT in float32, since bfloat16 takes a GPU"),
        ({"precision": "auto"}, ("amx_bf16",), None, "well", "bfloat16, if the probe in the step"),
        ({"precision": "bfloat16"}, (), None, "fault", "impossible here"),
        ({"precision": "bfloat16"}, ("amx_bf16",), None, "well", "OpenVINO in bfloat16"),
        ({"device": "gpu"}, (), None, "fault", "this machine has none"),
        ({}, (), (8, 9), "well", "the GPU; compute.precision float32: Keras under tf.function"),
    ],
)
def test_it_says_what_would_run_and_why(
    compute: dict[str, str],
    flags: tuple[str, ...],
    card: tuple[int, int] | None,
    state: str,
    told: str,
    tmp_path: Path,
    params_text: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    record = YAML(typ="safe").load(params_text)
    record["compute"] |= compute
    (tmp_path / "params.yaml").write_text(json.dumps(record))
    monkeypatch.setattr(devices, "gpus", lambda: (devices.Gpu("a card", card),) if card else ())
    monkeypatch.setattr(devices, "drivers", lambda: ())
    monkeypatch.setattr(devices, "cpu_flags", lambda: frozenset(flags))
    monkeypatch.setattr(choosing, "has_openvino", lambda: True)
    monkeypatch.setattr(doctor, "_LOOKS", {"runners": doctor._LOOKS["runners"]})
    (one,) = examine(Workspace(tmp_path)).findings
    assert one.state == state
    assert told in one.told
