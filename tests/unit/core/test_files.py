"""An output is there whole, or the earlier one is."""

from __future__ import annotations

import errno
import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graftline.core.errors import StorageFullError
from graftline.core.files import replacing_directory, replacing_file, sha256_file, sha256_record


def test_a_file_is_replaced_in_one_move(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "file.txt"
    for text in ("one", "two"):
        with replacing_file(target) as temporary:
            temporary.write_text(text)
            assert not target.exists() or target.read_text() == "one"
        assert target.read_text() == text
    assert [path.name for path in target.parent.iterdir()] == ["file.txt"]


def test_a_folder_is_swapped_whole(tmp_path: Path) -> None:
    target = tmp_path / "out"
    for number in range(3):
        with replacing_directory(target) as folder:
            (folder / f"{number}.txt").write_text("x")
        assert [path.name for path in target.iterdir()] == [f"{number}.txt"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_an_error_leaves_the_earlier_output(tmp_path: Path) -> None:
    file, folder = tmp_path / "file.txt", tmp_path / "folder"
    file.write_text("old")
    folder.mkdir()
    (folder / "old.txt").write_text("old")
    with pytest.raises(RuntimeError), replacing_file(file) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    with pytest.raises(RuntimeError), replacing_directory(folder) as new:
        (new / "half.txt").write_text("half")
        raise RuntimeError
    assert file.read_text() == "old"
    assert [path.name for path in folder.iterdir()] == ["old.txt"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file.txt", "folder"]


def test_what_a_killed_process_left_is_cleared(tmp_path: Path) -> None:
    (tmp_path / ".out.tmp-killed").mkdir()
    (tmp_path / ".out.tmp-killed" / "half").write_text("half")
    with replacing_directory(tmp_path / "out") as folder:
        (folder / "whole").write_text("whole")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("replacing", [replacing_file, replacing_directory])
def test_a_full_disk_is_told_as_such(tmp_path: Path, replacing: object) -> None:
    target = tmp_path / "out"
    with pytest.raises(StorageFullError, match="no space is left") as caught:
        with replacing(target):  # type: ignore[operator]
            raise OSError(errno.ENOSPC, "No space left on device")
    assert caught.value.exit_code == 2
    assert not target.exists()


@given(st.binary(max_size=4096))
def test_a_files_digest_is_that_of_its_bytes(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    path = tmp_path_factory.mktemp("digest") / "file"
    path.write_bytes(data)
    assert sha256_file(path) == hashlib.sha256(data).hexdigest()


@given(st.dictionaries(st.text(), st.integers() | st.text(), max_size=8))
def test_a_records_digest_ignores_the_order_of_keys(record: dict[str, object]) -> None:
    backwards = dict(reversed(list(record.items())))
    assert sha256_record(record) == sha256_record(backwards)
    assert sha256_record(record) != sha256_record({**record, "one more": 1})
