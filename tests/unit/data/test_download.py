from __future__ import annotations

import contextlib
import gzip
import hashlib
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from graftline.core.errors import DownloadError, StorageFullError
from graftline.data import download
from graftline.data.download import fetch

BODY = b"weights " * 1000
SHA256 = hashlib.sha256(BODY).hexdigest()


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        asked = self.server.asked  # type: ignore[attr-defined]
        asked.append(self.path)
        if self.path == "/flaky" and len(asked) < 3:
            self.send_response(503)
            self.end_headers()
        elif self.path == "/absent":
            self.send_response(404)
            self.end_headers()
        elif self.path.startswith("/to?"):
            self.send_response(302)
            self.send_header("Location", self.path.removeprefix("/to?"))
            self.end_headers()
        elif self.path == "/short":
            self.send_response(200)
            self.send_header("Content-Length", str(len(BODY) + 100))
            self.end_headers()
            self.wfile.write(BODY)
        elif self.path == "/endless":
            self.send_response(200)
            self.end_headers()
            with contextlib.suppress(ConnectionError):
                while True:
                    self.wfile.write(BODY)
        elif self.path == "/dripping":
            self.send_response(200)
            self.send_header("Content-Length", str(len(BODY)))
            self.end_headers()
            with contextlib.suppress(ConnectionError):
                for byte in BODY:
                    self.wfile.write(bytes([byte]))
                    time.sleep(0.01)
        elif self.path == "/packed":
            packed = gzip.compress(bytes(1_000_000))
            self.send_response(200)
            self.send_header("Content-Encoding", "gzip")
            self.send_header("Content-Length", str(len(packed)))
            self.end_headers()
            self.wfile.write(packed)
        else:
            self.send_response(200)
            self.send_header("Content-Length", str(len(BODY)))
            self.end_headers()
            self.wfile.write(BODY)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(download, "_BACKOFF_S", 0.0)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.asked = []
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def address(server, path):
    return f"http://127.0.0.1:{server.server_port}{path}"


def refused(url, target, sha256=None, **limits):
    target.write_bytes(b"earlier")
    with pytest.raises(DownloadError) as caught:
        fetch(url, target, sha256, **limits)
    assert caught.value.exit_code == 2
    assert target.read_bytes() == b"earlier"
    assert [path.name for path in target.parent.iterdir()] == [target.name]
    return caught.value


def test_the_file_and_its_hash(server, tmp_path):
    target = tmp_path / "below" / "file.h5"
    assert fetch(address(server, "/file"), target, SHA256) == SHA256
    assert target.read_bytes() == BODY


def test_without_a_hash_what_comes_is_taken(server, tmp_path):
    assert fetch(address(server, "/file"), tmp_path / "file", None) == SHA256


def test_the_hash_may_be_in_capitals(server, tmp_path):
    assert fetch(address(server, "/file"), tmp_path / "file", SHA256.upper()) == SHA256


def test_a_wrong_hash(server, tmp_path):
    error = refused(address(server, "/file"), tmp_path / "file", "0" * 64)
    assert f"SHA-256 {SHA256}" in error.what
    assert "0" * 64 in str(error)


def test_an_overloaded_server_is_asked_again(server, tmp_path):
    assert fetch(address(server, "/flaky"), tmp_path / "file", SHA256) == SHA256
    assert server.asked == ["/flaky"] * 3


def test_a_file_that_is_not_there_is_asked_for_once(server, tmp_path):
    error = refused(address(server, "/absent"), tmp_path / "file")
    assert "the server answered 404" in error.what
    assert server.asked == ["/absent"]


def test_a_connection_that_breaks(server, tmp_path):
    error = refused(address(server, "/short"), tmp_path / "file")
    assert "the download failed" in error.what
    assert "to work offline" in str(error)


@pytest.mark.parametrize("path", ["/endless", "/packed", "/file"])
def test_a_file_that_is_too_large(server, tmp_path, path):
    error = refused(address(server, path), tmp_path / "file", max_bytes=5000)
    assert error.what.endswith(
        "has 8,000 bytes" if path == "/file" else "goes on after 5,000 bytes"
    )
    assert "name the file's path instead" in str(error)


def test_a_file_that_drips_in(server, tmp_path):
    begun_s = time.monotonic()
    error = refused(address(server, "/dripping"), tmp_path / "file", limit_s=0.3)
    assert "is not whole after 0.3 s" in error.what
    assert time.monotonic() - begun_s < 20


def test_a_file_that_is_sent_packed(server, tmp_path):
    fetch(address(server, "/packed"), tmp_path / "file", None)
    assert (tmp_path / "file").read_bytes() == bytes(1_000_000)


def test_a_redirect_on_this_machine(server, tmp_path):
    url = address(server, f"/to?{address(server, '/file')}")
    assert fetch(url, tmp_path / "file", SHA256) == SHA256


@pytest.mark.parametrize(
    "other", ["http://192.0.2.1/file", "http://localhost.example/x", "ftp://x/"]
)
def test_a_redirect_to_what_is_not_https(server, tmp_path, other):
    error = refused(address(server, f"/to?{other}"), tmp_path / "file")
    assert "leads on to one that is not https" in error.what


def test_nobody_there(tmp_path, monkeypatch):
    monkeypatch.setattr(download, "_BACKOFF_S", 0.0)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        error = refused(f"http://127.0.0.1:{port}/file", tmp_path / "file")
    assert "the server cannot be reached" in error.what
    assert "to work offline" in str(error)


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/file",
        "http://127.0.0.1.example.com/file",
        "http://localhost@example.com/file",
        "ftp://example.com/file",
        "file:///etc/passwd",
        "https:///file",
        "file.h5",
        "",
    ],
)
def test_other_addresses_are_refused_before_any_connection(tmp_path, url):
    error = refused(url, tmp_path / "file")
    assert "is no https address" in error.what
    assert "https://" in str(error)


def test_a_full_disk(server, tmp_path, monkeypatch):
    def full(*_args: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(download, "_received", full)
    (tmp_path / "file").write_bytes(b"earlier")
    with pytest.raises(StorageFullError):
        fetch(address(server, "/file"), tmp_path / "file", None)
    assert (tmp_path / "file").read_bytes() == b"earlier"
