"""Each verdict is told once to each receiver; an address that is a secret is told to nobody."""

from __future__ import annotations

import json
import logging
import shlex
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from graftline.core.errors import MissingOutputError, NotificationError, ParamsError
from graftline.core.params import NotifyParams, params_from_record
from graftline.core.records.register import Registered
from graftline.core.workspace import Workspace
from graftline.steps.notify import channels, message, notify
from tests import finished
from tests.listener import Listener, answering, listening

TOKEN = "T0P-s3cr3t"


@pytest.fixture
def listener(monkeypatch: pytest.MonkeyPatch) -> Iterator[Listener]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("GRAFTLINE_WEBHOOK", raising=False)
    with listening() as one:
        yield one


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """A checkout whose second version has just been registered."""
    workspace = Workspace(tmp_path)
    finished.finish(workspace)
    register(workspace, "2")
    return workspace


def register(workspace: Workspace, version: str) -> None:
    Registered(
        model_name="toys",
        version=version,
        alias="challenger",
        run_id="abc",
        model_uri=f"models:/toys/{version}",
        already_registered=False,
    ).write(workspace.var / "registered.json")


def decide(workspace: Workspace, version: str, decision: str) -> dict[str, Any]:
    receipt = {
        "model_name": "toys",
        "challenger_version": version,
        "champion_version": "1",
        "decision": decision,
        "reason": "accuracy 97.50% reaches the floor of 90.00%",
    }
    (workspace.root / "reports" / "promotion.json").write_text(json.dumps(receipt))
    return receipt


def writes_to(path: Path) -> str:
    code = f"import sys; open({str(path)!r}, 'a').write(sys.stdin.read() + chr(10))"
    return shlex.join([sys.executable, "-c", code])


def test_nobody_is_told_by_default(workspace: Workspace) -> None:
    assert channels(NotifyParams(), {}) == []
    assert notify(workspace, NotifyParams(), message(workspace, {})) == ()
    assert not (workspace.var / "notified.json").exists()


def test_there_is_no_verdict_before_a_model_is_registered(tmp_path: Path) -> None:
    with pytest.raises(MissingOutputError):
        message(Workspace(tmp_path), {})


def test_without_a_decision_the_registration_is_told(workspace: Workspace) -> None:
    told = message(workspace, {"prefect": "run-1"})
    assert told["verdict"] == "registered"
    assert told["text"] == "toys version 2 was registered as challenger"
    assert told["promotion"] is None
    assert told["runs"] == {"mlflow": "abc", "prefect": "run-1"}
    assert told["metrics"]["test_accuracy"] == pytest.approx(0.975)


@pytest.mark.parametrize(
    ("decision", "words"), [("promoted", "is the new champion"), ("kept", "was not made the")]
)
def test_a_decision_is_told_word_for_word(workspace: Workspace, decision: str, words: str) -> None:
    receipt = decide(workspace, "2", decision)
    told = message(workspace, {})
    assert told["verdict"] == decision
    assert words in told["text"]
    assert told["text"].endswith(receipt["reason"])
    assert told["promotion"] == receipt


def test_a_decision_on_another_version_is_not_this_ones(workspace: Workspace) -> None:
    decide(workspace, "1", "promoted")
    assert message(workspace, {})["promotion"] is None


@pytest.mark.parametrize("content", ["", "{", "[]", "3"])
def test_half_a_decision_is_none(workspace: Workspace, content: str) -> None:
    (workspace.root / "reports" / "promotion.json").write_text(content)
    assert message(workspace, {})["verdict"] == "registered"


def test_command_and_address_get_the_same_verdict_once(
    workspace: Workspace, listener: Listener, tmp_path: Path
) -> None:
    decide(workspace, "2", "promoted")
    params = NotifyParams(command=writes_to(tmp_path / "told.txt"), webhook=listener.address)
    told = message(workspace, {})
    assert notify(workspace, params, told) == ("command", "webhook")
    assert notify(workspace, params, message(workspace, {})) == ()
    [line] = (tmp_path / "told.txt").read_text().splitlines()
    [(path, kind, posted)] = listener.got
    assert (path, kind) == ("/", "application/json")
    assert json.loads(line) == posted == told
    register(workspace, "3")
    assert notify(workspace, params, message(workspace, {})) == ("command", "webhook")


def test_who_was_told_is_not_told_again_when_another_could_not_be(
    workspace: Workspace, listener: Listener, tmp_path: Path
) -> None:
    params = NotifyParams(command=writes_to(tmp_path / "told.txt"), webhook=listener.address)
    listener.code = 503
    told = message(workspace, {})
    with pytest.raises(NotificationError, match=r"127\.0\.0\.1:\d+ was not told.*answered 503"):
        notify(workspace, params, told)
    listener.code = 200
    assert notify(workspace, params, told) == ("webhook",)
    assert len((tmp_path / "told.txt").read_text().splitlines()) == 1


def test_a_secret_address_comes_first_and_is_never_told(
    workspace: Workspace,
    listener: Listener,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    secret = f"{listener.address}/{TOKEN}?key={TOKEN}"
    monkeypatch.setenv("GRAFTLINE_WEBHOOK", secret)
    params = NotifyParams(
        webhook="http://127.0.0.1:9/", command="sh -c 'echo $GRAFTLINE_WEBHOOK >&2; exit 3'"
    )
    listener.code = 403
    with caplog.at_level(logging.DEBUG), pytest.raises(NotificationError) as caught:
        notify(workspace, params, message(workspace, {}))
    assert listener.got[0][0] == f"/{TOKEN}?key={TOKEN}"
    error = caught.value
    assert "ended with 3: $GRAFTLINE_WEBHOOK" in str(error)
    assert "answered 403" in str(error)
    assert error.__cause__ is None
    assert TOKEN not in str(error) + caplog.text
    assert not any(
        TOKEN in path.read_text(errors="replace")
        for path in workspace.root.rglob("*")
        if path.is_file()
    )


def test_what_is_wrong_with_an_address_is_told_without_it(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    for address in (
        *(f"http://127.0.0.1:9/{TOKEN}", f"nonsense {TOKEN}", f"http://[{TOKEN}"),
        *(f"http://127.0.0.1:99999/{TOKEN}", f"http://a..b/{TOKEN}", f"http:///{TOKEN}"),
        *(f"file:///{TOKEN}", f"ftp://127.0.0.1/{TOKEN}", f"{TOKEN}:x", f"//{TOKEN}/"),
    ):
        monkeypatch.setenv("GRAFTLINE_WEBHOOK", address)
        with pytest.raises(NotificationError) as caught:
            notify(workspace, NotifyParams(), message(workspace, {}))
        assert TOKEN not in str(caught.value)
        assert caught.value.__cause__ is None
        assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_a_redirection_is_not_followed(workspace: Workspace, listener: Listener) -> None:
    listener.code = 307
    with pytest.raises(NotificationError, match="answered 307"):
        notify(workspace, NotifyParams(webhook=listener.address), message(workspace, {}))
    assert len(listener.got) == 1


def test_a_redirection_takes_neither_verdict_nor_secret_to_another_host(
    workspace: Workspace, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = f"HTTP/1.1 308 Moved\r\nLocation: {listener.address}/{TOKEN}\r\n\r\n".encode()
    with answering(lambda connection: connection.sendall(answer)) as address:
        monkeypatch.setenv("GRAFTLINE_WEBHOOK", f"{address}/{TOKEN}")
        with pytest.raises(NotificationError, match="answered 308") as caught:
            notify(workspace, NotifyParams(), message(workspace, {}))
    assert listener.got == []
    assert TOKEN not in str(caught.value)


def for_ever(piece: bytes, beginning: bytes = b"", pause_s: float = 0.0) -> Any:
    def reply(connection: socket.socket) -> None:
        connection.sendall(beginning)
        while True:
            connection.sendall(piece)
            time.sleep(pause_s)

    return reply


def once(answer: bytes) -> Any:
    return lambda connection: connection.sendall(answer)


@pytest.mark.parametrize(
    ("reply", "told"),
    [
        (for_ever(b"H", pause_s=0.05), "did not answer within"),
        (for_ever(b"HTTP/1.1 103 Early\r\n\r\n" * 500), "did not answer within"),
        (for_ever(b"X: y\r\n" * 999, b"HTTP/1.1 200 OK\r\n"), "cannot be reached"),
        (for_ever(b"x" * 65536, b"HTTP/1.1 500 Gone\r\n\r\n"), "answered 500"),
        (once(b"HTTP/1.1 403 \x1b[2J\x1b]0;owned\x07\r\n\r\n"), "answered 403"),
        (once(b"\x1b[2Jno HTTP\r\n\r\n"), "cannot be reached"),
    ],
)
def test_a_hostile_receiver_has_no_more_than_its_time_and_no_word(
    workspace: Workspace, listener: Listener, reply: Any, told: str
) -> None:
    started_s = time.monotonic()
    with answering(reply) as address, pytest.raises(NotificationError, match=told) as caught:
        params = NotifyParams(webhook=address, timeout_s=0.5)
        notify(workspace, params, message(workspace, {}))
    assert time.monotonic() - started_s < 5
    assert caught.value.what.isprintable() and "owned" not in str(caught.value)


def test_of_an_endless_body_nothing_is_read(workspace: Workspace, listener: Listener) -> None:
    body = for_ever(b"x" * 65536, b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n")
    with answering(body) as address:
        params = NotifyParams(webhook=address)
        assert notify(workspace, params, message(workspace, {})) == ("webhook",)


def test_a_proxy_that_is_none_is_no_fault_of_graftlines(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRAFTLINE_WEBHOOK", f"http://example.invalid/{TOKEN}")
    for proxy in ("socks5://127.0.0.1:9", "nonsense", "ftp://127.0.0.1"):
        for name in ("HTTP_PROXY", "http_proxy"):
            monkeypatch.setenv(name, proxy)
        with pytest.raises(NotificationError, match="cannot be reached") as caught:
            notify(workspace, NotifyParams(), message(workspace, {}))
        assert TOKEN not in str(caught.value)


def test_what_a_command_says_is_shown_without_the_secret_and_without_its_signs(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRAFTLINE_WEBHOOK", f"http://127.0.0.1:9/{TOKEN}")
    code = r"import os; os.write(2, b'\x1b[2J ' + os.environ['GRAFTLINE_WEBHOOK'][19:].encode())"
    command = shlex.join([sys.executable, "-c", f"{code}; raise SystemExit(3)"])
    with pytest.raises(NotificationError) as caught:
        notify(workspace, NotifyParams(command=command), message(workspace, {}))
    # What the task logs is this, and not the error's text.
    assert r"ended with 3: \x1b[2J $GRAFTLINE_WEBHOOK" in caught.value.what
    assert TOKEN not in caught.value.what


def test_who_does_not_answer_is_not_waited_for(workspace: Workspace, listener: Listener) -> None:
    listener.waits_s = 1.0
    params = NotifyParams(webhook=listener.address, command="sleep 30", timeout_s=0.2)
    started_s = time.monotonic()
    with pytest.raises(NotificationError, match=r"longer than 0\.2 s; .* within 0\.2 s"):
        notify(workspace, params, message(workspace, {}))
    assert time.monotonic() - started_s < 10


def test_a_command_that_does_not_exist_is_said_so(workspace: Workspace) -> None:
    with pytest.raises(NotificationError, match="cannot be started: No such file"):
        notify(workspace, NotifyParams(command="no-such-command"), message(workspace, {}))


def params(**values: Any) -> Any:
    return params_from_record(
        {
            "data": {"source": "mnist-5k"},
            "backbone": {"weights": "random", "cut": "block_6_expand_relu"},
            "notify": values,
        },
        "params.yaml",
    )


@pytest.mark.parametrize(
    "address",
    [
        f"https://user:{TOKEN}@example.org/",
        f"https://example.org/?key={TOKEN}",
        f"https://example.org/#{TOKEN}",
        f"ftp://{TOKEN}.example.org",
        f"//{TOKEN}",
    ],
)
def test_a_secret_has_no_place_in_the_parameters(address: str) -> None:
    with pytest.raises(ParamsError, match=r"notify\.webhook") as caught:
        params(webhook=address)
    assert TOKEN not in str(caught.value)


@pytest.mark.parametrize("command", ["", "   ", "echo 'open"])
def test_a_command_that_is_none_is_refused(command: str) -> None:
    with pytest.raises(ParamsError, match=r"notify\.command"):
        params(command=command)
