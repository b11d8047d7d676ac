"""A server that goes away under a flow, and comes back: both are said."""

from __future__ import annotations

import http.server
import threading
import time
from collections.abc import Callable

from tasks.reach import absence_told

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
