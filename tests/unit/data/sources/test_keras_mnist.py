from __future__ import annotations

import ast
import importlib.util
import shutil
from pathlib import Path

import numpy as np
import pytest

from graftline.core.errors import DownloadError
from graftline.core.files import sha256_file
from graftline.data.download import fetch
from graftline.data.sources import keras_mnist
from tests.unit.data.loading import pixels

MAX_PX = 1_000_000


@pytest.fixture
def cached(tmp_path, monkeypatch):
    """A small archive in Keras's cache, in the place of MNIST."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    file = tmp_path / "keras" / "datasets" / "mnist.npz"
    file.parent.mkdir(parents=True)
    images = np.stack([pixels(number) for number in range(6)])
    np.savez(file, x_train=images[:4], y_train=[0, 1, 0, 1], x_test=images[4:], y_test=[0, 1])
    monkeypatch.setattr(keras_mnist, "SHA256", sha256_file(file))
    return file


def no_network(*_args: object) -> str:
    raise DownloadError("the download failed", where="there")


def test_address_and_hash_are_those_of_keras():
    # Read, not imported: importing Keras takes seconds.
    package = importlib.util.find_spec("keras").submodule_search_locations[0]
    source = (Path(package) / "src" / "datasets" / "mnist.py").read_text()
    texts = {node.value for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Constant)}
    assert keras_mnist.SHA256 in texts
    assert keras_mnist.ADDRESS.removesuffix("mnist.npz") in texts


def test_the_cached_archive_is_read(cached, tmp_path, monkeypatch):
    monkeypatch.setattr(keras_mnist, "fetch", no_network)
    catalog = keras_mnist.catalog(tmp_path, MAX_PX)
    assert catalog.total == 6
    assert catalog.given_splits == {"train", "test"}


def test_it_is_fetched_into_the_cache(cached, tmp_path, monkeypatch):
    elsewhere = tmp_path / "elsewhere.npz"
    shutil.move(cached, elsewhere)
    asked = []

    def from_elsewhere(url: str, target: Path, sha256: str) -> str:
        asked.append((url, sha256))
        shutil.copy(elsewhere, target)
        return sha256

    monkeypatch.setattr(keras_mnist, "fetch", from_elsewhere)
    assert keras_mnist.catalog(tmp_path, MAX_PX).total == 6
    assert asked == [(keras_mnist.ADDRESS, keras_mnist.SHA256)]
    assert cached.is_file()


def test_a_changed_archive_is_not_used(cached, tmp_path, monkeypatch):
    with cached.open("ab") as file:
        file.write(b"x")
    monkeypatch.setattr(keras_mnist, "fetch", no_network)
    with pytest.raises(DownloadError):
        keras_mnist.catalog(tmp_path, MAX_PX)


def test_an_unreachable_download_tells_how_to_work_offline(cached, tmp_path, monkeypatch):
    cached.unlink()
    monkeypatch.setattr(keras_mnist, "ADDRESS", "https://127.0.0.1:9/mnist.npz")
    monkeypatch.setattr("graftline.data.download._BACKOFF_S", 0.0)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    assert keras_mnist.fetch is fetch
    with pytest.raises(DownloadError, match="the server cannot be reached") as caught:
        keras_mnist.catalog(tmp_path, MAX_PX)
    assert caught.value.exit_code == 2
    text = str(caught.value)
    assert "https://127.0.0.1:9/mnist.npz" in text
    assert "data.source to mnist-5k" in text
    assert str(cached) in text


def test_the_home_of_keras(monkeypatch, tmp_path):
    monkeypatch.setenv("KERAS_HOME", "/somewhere")
    assert keras_mnist.keras_home() == Path("/somewhere")
    monkeypatch.delenv("KERAS_HOME")
    monkeypatch.delenv("GRAFTLINE_KERAS_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert keras_mnist.keras_home() == tmp_path / ".keras"
    monkeypatch.setenv("HOME", str(tmp_path / "absent"))
    assert keras_mnist.keras_home() == Path("/tmp/.keras")
