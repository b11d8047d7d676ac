"""A server that goes away under a flow, and comes back: both are said."""

from __future__ import annotations

import http.server
import importlib
import threading
import time
from collections.abc import Callable

import pytest

from graftline.core.errors import ServerError
from graftline.orchestration.api_health import absence_told, check_answers

EVERY_S = 0.05


class Refusing(http.server.BaseHTTPRequestHandler):
    asked = threading.Event()

    def do_GET(self) -> None:
        self.send_error(403)
        self.asked.set()

    def log_message(self, *_: object) -> None:
        pass


def serve(port: int = 0) -> http.server.ThreadingHTTPServer:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Refusing)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def end(server: http.server.ThreadingHTTPServer) -> None:
    server.shutdown()
    server.server_close()


def until(true: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 20
    while not true() and time.monotonic() < deadline_s:
        time.sleep(EVERY_S)
    assert true()


def test_going_and_coming_back_are_said_once_each() -> None:
    said: list[str] = []
    server = serve()
    port = server.server_address[1]
    # The first look would spend its time on this.
    importlib.import_module("httpx")
    with absence_told(f"http://127.0.0.1:{port}/api", said.append, EVERY_S):
        # The first question waits for an import, which takes seconds on a crowded machine.
        assert Refusing.asked.wait(60)
        time.sleep(10 * EVERY_S)
        # A refusal is an answer.
        assert said == []
        end(server)
        until(lambda: len(said) == 1)
        time.sleep(10 * EVERY_S)
        assert said[0].startswith("Prefect's server is away"), said
        server = serve(port)
        until(lambda: len(said) == 2)
    end(server)
    assert said[1] == "Prefect's server is back"


def test_one_that_this_question_never_reaches_is_not_spoken_of() -> None:
    said: list[str] = []
    server = serve()
    port = server.server_address[1]
    end(server)
    with absence_told(f"http://127.0.0.1:{port}/api", said.append, EVERY_S):
        time.sleep(10 * EVERY_S)
    assert said == []


def test_an_api_that_does_not_let_one_in_is_told_with_the_way_in(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _, error = refused(monkeypatch, well_but_closed)
    assert "does not let this client in" in error.what
    assert error.exit_code == 2
    assert "PREFECT_API_AUTH_STRING" in str(error.allowed)
    assert "cat var/login" in str(error.fix)


def well_but_closed(request: http.server.BaseHTTPRequestHandler) -> None:
    answer(request, 200 if request.path == "/api/health" else 401, b"true")


def test_a_server_whose_database_is_away_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    address, error = refused(monkeypatch, without_database)
    assert "its database does not answer" in error.what
    assert error.where == f"PREFECT_API_URL: {address}"
    assert "PREFECT_SERVER_DATABASE_CONNECTION_URL" in str(error.fix)


@pytest.mark.parametrize("status", [404, 200])
def test_a_server_that_is_no_api_is_told(status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def other(request: http.server.BaseHTTPRequestHandler) -> None:
        answer(request, status, b"<html>", "text/html")

    address, error = refused(monkeypatch, other, path="")
    assert "it is no Prefect API" in error.what
    assert error.where == f"PREFECT_API_URL: {address}"
    assert "/api" in str(error.allowed)


def refused(
    monkeypatch: pytest.MonkeyPatch,
    answering: Callable[[http.server.BaseHTTPRequestHandler], None],
    path: str = "/api",
) -> tuple[str, ServerError]:
    """The address of a server that answers so, and what is said of it."""
    from prefect.settings import PREFECT_API_URL, temporary_settings

    monkeypatch.setattr(Refusing, "do_GET", answering)
    server = serve()
    address = f"http://127.0.0.1:{server.server_address[1]}{path}"
    with temporary_settings({PREFECT_API_URL: address}):
        with pytest.raises(ServerError) as caught:
            check_answers(address)
    end(server)
    return address, caught.value


def without_database(request: http.server.BaseHTTPRequestHandler) -> None:
    answer(request, 503 if request.path == "/api/ready" else 200, b'"0.8.4"')


def answer(
    request: http.server.BaseHTTPRequestHandler,
    status: int,
    body: bytes,
    content: str = "application/json",
) -> None:
    request.send_response(status)
    request.send_header("Content-Type", content)
    request.send_header("Content-Length", str(len(body)))
    request.end_headers()
    request.wfile.write(body)


def test_an_address_that_would_be_cut_in_its_password_is_refused() -> None:
    with pytest.raises(ServerError, match="cannot be read as it is meant") as caught:
        check_answers("http://ann:can/ary@127.0.0.1:9/api")
    assert caught.value.where == "PREFECT_API_URL: http://***@127.0.0.1:9/api"
    assert "ary" not in str(caught.value)
