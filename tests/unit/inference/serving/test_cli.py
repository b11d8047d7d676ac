"""The command: what it refuses, and how it starts and stops."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from graftline.cli.main import main
from tests.unit.inference.serving.service import in_base64
from tests.unit.inference.serving.test_app import NOON

LIMIT_S = 300


@contextmanager
def served(
    *arguments: str, interpreter: Sequence[str] = (sys.executable, "-m", "graftline")
) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """``graftline serve`` in a process of its own, and its address."""
    process = subprocess.Popen(
        [*interpreter, "serve", "--port", "0", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    try:
        assert process.stdout is not None
        told = ""
        for line in process.stdout:
            told += line
            if "Ctrl-C" in line:
                break
        found = re.search(r"page +(http://127\.0\.0\.1:\d+)/", told)
        assert found is not None, told
        yield found.group(1), process
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def posted(address: str, body: dict[str, object]) -> dict[str, object]:
    request = urllib.request.Request(
        f"{address}/predict",
        data=json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=LIMIT_S) as answer:
        record: dict[str, object] = json.load(answer)
    return record


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_serves_until_it_is_told_to_stop(
    model: Path, tmp_path: Path, number: signal.Signals
) -> None:
    with served("--model", str(model), "-C", str(tmp_path)) as (address, process):
        answer = posted(address, {"images": [in_base64(NOON)]})
        process.send_signal(number)
        told, _ = process.communicate(timeout=LIMIT_S)
    assert '"label": "bright"' in json.dumps(answer)
    assert process.returncode == 0, told
    assert "Stopped: 1 image answered" in told
    assert "Traceback" not in told


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.1.2.3", "example.com", ""])
def test_it_listens_on_this_machine_alone(
    host: str, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", "--model", str(model), "--host", host]) == 2
    assert "can be reached from other machines" in capsys.readouterr().err


def test_a_port_that_is_taken_is_told(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        assert main(["serve", "--model", str(model), "--port", port]) == 2
    told = capsys.readouterr().err
    assert f"port {port} of 127.0.0.1" in told
    assert "--port 0" in told


@pytest.mark.parametrize(
    ("option", "value"),
    [("--port", "70000"), ("--max-images", "0"), ("--time-limit-s", "nan"), ("--queue", "many")],
)
def test_limits_are_checked(option: str, value: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["serve", option, value])
    assert repr(value) in capsys.readouterr().err
