"""Clients that say nothing, or half of it: what they hold, and for how long."""

from __future__ import annotations

import logging
import resource
import socket
import struct
import sys
import threading
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest

from graftline.inference.serving.connections import Rationed, bounded_connections, most_connections
from graftline.inference.serving.limits import Limits, Room
from tests.unit.inference.serving.service import Client, form, served
from tests.unit.inference.serving.test_cli import served as served_by_command

LIMIT_S = 30
HALF_A_HEAD = b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Name: "
HEAD_ALONE = b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9\r\n\r\n"


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Waits for the whole body, and answers with as many bytes as the address says."""
    if scope["type"] == "lifespan":
        for kind in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{kind}.complete"})
        return
    message = {"more_body": True}
    while message.get("more_body"):
        message = await receive()
        if message["type"] == "http.disconnect":
            return
    size = int(scope["path"].strip("/") or 2)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"x" * size})


@contextmanager
def bounded(head_s: float = LIMIT_S, most: int = 4, time_s: float = LIMIT_S) -> Iterator[str]:
    protocol = bounded_connections(Limits(time_s=time_s), most, head_s)
    with served(application, http=protocol) as address:
        yield address


def opened(stack: ExitStack, address: str, sent: bytes = b"") -> socket.socket:
    where = urlsplit(address)
    one = socket.create_connection((str(where.hostname), where.port or 0), LIMIT_S)
    stack.enter_context(one)
    one.sendall(sent)
    return one


def is_closed(connection: socket.socket) -> bool:
    """Waits for its end; a time-out of the test is none."""
    try:
        while connection.recv(65536):
            pass
    except ConnectionError:
        pass
    return True


@pytest.mark.parametrize("sent", [b"", HALF_A_HEAD], ids=["nothing", "half a head"])
def test_who_does_not_ask_is_not_waited_for(sent: bytes) -> None:
    with bounded(head_s=0.3) as address, ExitStack() as stack:
        assert is_closed(opened(stack, address, sent))


def test_a_head_that_drips_in_is_not_waited_for() -> None:
    with bounded(head_s=0.5) as address, ExitStack() as stack:
        slow = opened(stack, address, HALF_A_HEAD)
        begun_s = time.monotonic()
        with pytest.raises(ConnectionError):
            while time.monotonic() - begun_s < LIMIT_S:
                slow.sendall(b"a")
                time.sleep(0.05)
        assert time.monotonic() - begun_s < LIMIT_S / 2


def test_the_deadline_is_each_requests_own() -> None:
    with bounded(head_s=0.6) as address:
        client = Client(address)
        with client.session:
            for _ in range(4):
                assert client.get("/").status_code == 200
                time.sleep(0.3)


def test_who_does_not_take_the_answer_is_not_waited_for() -> None:
    with bounded(head_s=0.5) as address, ExitStack() as stack:
        # More than the buffers of both sides hold.
        deaf = opened(stack, address, b"GET /60000000 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        time.sleep(1.5)
        received = 0
        with pytest.raises(ConnectionError):
            while piece := deaf.recv(1 << 20):
                received += len(piece)
            raise ConnectionError("closed")
        assert received < 60_000_000


def test_silent_connections_give_way_to_new_ones() -> None:
    with bounded(most=4) as address, ExitStack() as stack:
        silent = [opened(stack, address) for _ in range(20)]
        client = Client(address)
        with client.session:
            assert client.get("/").status_code == 200
        assert all(is_closed(one) for one in silent[:10])


def test_connections_at_work_do_not_give_way() -> None:
    with bounded(most=3) as address, ExitStack() as stack:
        at_work = [opened(stack, address, HEAD_ALONE) for _ in range(3)]
        time.sleep(0.5)
        assert is_closed(opened(stack, address))
        for one in at_work:
            one.sendall(b"123456789")
            assert one.recv(100).startswith(b"HTTP/1.1 200")


def test_two_lengths_are_refused(client: Client) -> None:
    with ExitStack() as stack:
        both = opened(
            stack,
            client.address,
            b"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 4\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /health HTTP/1.1\r\n"
            b"Host: 127.0.0.1\r\n\r\n",
        )
        answer = b""
        while piece := both.recv(65536):
            answer += piece
    assert answer.startswith(b"HTTP/1.1 400")
    assert answer.count(b"HTTP/1.1") == 1, "what follows is not taken for another request"


def test_lines_of_one_kind_are_rationed() -> None:
    ration = Rationed(lines=2, per_s=0.2)

    def line(text: str, *values: object) -> logging.LogRecord:
        return logging.LogRecord("a", logging.WARNING, "", 0, text, values, None)

    assert [ration.filter(line("%d are open", count)) for count in range(5)] == [True] * 2 + [
        False
    ] * 3
    assert ration.filter(line("another kind"))
    time.sleep(0.25)
    later = line("%d are open", 9)
    assert ration.filter(later)
    assert later.getMessage() == "9 are open (3 more like the last ones)"


def test_there_are_no_more_connections_than_files_may_be_open() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (300, before[1]))
        assert most_connections() == 108
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_decoding_shares_its_memory() -> None:
    room, begun, go = Room(100), threading.Event(), threading.Event()
    order: list[str] = []

    def decode(name: str, size_bytes: int) -> None:
        with room.held(size_bytes, time.monotonic() + LIMIT_S) as fits:
            assert fits
            order.append(name)
            begun.set()
            go.wait(LIMIT_S)

    with ThreadPoolExecutor() as pool:
        pool.submit(decode, "first", 60)
        assert begun.wait(LIMIT_S)
        with room.held(50, time.monotonic() + 0.05) as fits:
            assert not fits
        with room.held(40, time.monotonic()) as fits:
            assert fits, "what fits beside it does not wait"
        last = pool.submit(decode, "larger than all", 900)
        time.sleep(0.05)
        assert order == ["first"]
        go.set()
        last.result(LIMIT_S)
    assert order == ["first", "larger than all"]
    with room.held(100, time.monotonic()) as fits:
        assert fits, "all of it was given back"


@pytest.mark.slow
def test_fifty_large_uploads_at_once(model: Path, tmp_path: Path) -> None:
    # 20 megapixels of 16 bits and four channels, in a small file.
    rows = struct.pack(">IIBBBBB", 5000, 4000, 16, 6, 0, 0, 0)
    parts = (b"IHDR" + rows, b"IDAT" + zlib.compress(bytes(4000 * (1 + 8 * 5000))), b"IEND")
    image = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(one) - 4) + one + struct.pack(">I", zlib.crc32(one)) for one in parts
    )
    most_bytes = 0
    with served_by_command("--model", str(model), "-C", str(tmp_path), "--time-limit-s", "30") as (
        address,
        process,
    ):
        watched = psutil.Process(process.pid)
        with ThreadPoolExecutor(50) as pool:
            asked = [
                pool.submit(Client(address).post, "/predict", files=form(image)) for _ in range(50)
            ]
            while not all(one.done() for one in asked):
                most_bytes = max(most_bytes, watched.memory_info().rss)
                time.sleep(0.02)
        # What was not reached in 30 seconds is told so.
        assert {one.result().status_code for one in asked} <= {200, 503}
        assert 200 in {one.result().status_code for one in asked}
    # What decoding shares, what bodies may hold, and the process itself.
    assert most_bytes < (1 << 30) + 256_000_000 + 400_000_000


def test_a_crowd_neither_fills_the_log_nor_takes_the_service_away(
    model: Path, tmp_path: Path
) -> None:
    limited = "import resource,runpy;resource.setrlimit(resource.RLIMIT_NOFILE,(256,256));"
    limited += "runpy.run_module('graftline',run_name='__main__')"
    with (
        served_by_command(
            "--model", str(model), "-C", str(tmp_path), interpreter=[sys.executable, "-c", limited]
        ) as (address, process),
        ExitStack() as stack,
    ):
        before_bytes = psutil.Process(process.pid).memory_info().rss
        for turn in range(600):
            opened(stack, address, HALF_A_HEAD if turn % 2 else b"")
            if not turn % 100:
                newcomer = Client(address)
                with newcomer.session:
                    assert newcomer.get("/health").status_code == 200
        client = Client(address)
        with client.session:
            zeros = b'{"images": [0' + b",0" * 5_000_000 + b"]}"
            kind = {"Content-Type": "application/json"}
            assert client.post("/predict", data=zeros, headers=kind).status_code == 422
            images = {"images": [0] * 60}
            assert client.post("/predict", json=images).status_code == 422
        grown_bytes = psutil.Process(process.pid).memory_info().rss - before_bytes
        process.terminate()
        told, _ = process.communicate(timeout=LIMIT_S)
    assert grown_bytes < 200_000_000
    assert len(told) < 10_000, told
