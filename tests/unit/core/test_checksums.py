"""Rot: other bytes under the same name, size and time."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graftline.core.checksums import CHECKSUMS, seal, verify
from graftline.core.errors import DamagedFileError, GraftlineError
from graftline.core.files import replacing_directory
from graftline.core.records import FreezePlan

PLAN = FreezePlan(
    strategy="last_blocks: 1",
    cut="block_2_add",
    boundary="block_1_project_BN",
    trainable=("block_2_expand",),
    batch_norm="keep",
    measured=False,
    reason="as asked",
)


def rot(path: Path, bit: int = 0) -> None:
    """Flips a bit and keeps size and times, as a failing disk does."""
    before = path.stat()
    content = bytearray(path.read_bytes())
    bit %= 8 * len(content)
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.fixture
def sealed(tmp_path: Path) -> Path:
    with replacing_directory(tmp_path / "out", sealed=True) as folder:
        (folder / "a file").write_bytes(b"some bytes")
        (folder / "below").mkdir()
        (folder / "below" / "b").write_bytes(b"others")
    return tmp_path / "out"


def test_the_list_is_one_that_sha256sum_reads(sealed: Path) -> None:
    lines = (sealed / CHECKSUMS).read_text().splitlines()
    # printf 'some bytes' | sha256sum
    known = "0d22cdcc10e6d049dbe1af5123d50873fdfc1a4f58306e58cb6241be9472014d"
    assert lines[0] == f"{known}  a file"
    done = subprocess.run(["sha256sum", "--check", CHECKSUMS], cwd=sealed, check=False)
    assert done.returncode == 0


def test_whole_files_pass(sealed: Path) -> None:
    verify(sealed / "a file")
    verify(sealed / "absent")
    verify(sealed / "below" / "b")


@pytest.mark.parametrize("bit", [0, 7, 33, 79])
def test_a_bit_is_noticed(sealed: Path, bit: int) -> None:
    rot(sealed / "a file", bit)
    with pytest.raises(DamagedFileError, match="a file is damaged") as caught:
        verify(sealed / "a file")
    assert caught.value.exit_code == 2
    assert f"remove {sealed} and run again" in str(caught.value)


@given(bit=st.integers(0, 10_000))
def test_a_bit_in_the_list_is_noticed_or_harmless(
    tmp_path_factory: pytest.TempPathFactory, bit: int
) -> None:
    folder = tmp_path_factory.mktemp("out")
    (folder / "a").write_bytes(b"some bytes")
    seal(folder)
    rot(folder / CHECKSUMS, bit)
    try:
        verify(folder / "a")
    except DamagedFileError:
        return
    # An end of line that became another one.
    assert (folder / CHECKSUMS).read_text().splitlines()[0].endswith("  a")


def test_a_file_that_the_list_leaves_out_is_not_believed(sealed: Path) -> None:
    (sealed / "c").write_bytes(b"new")
    with pytest.raises(DamagedFileError, match=CHECKSUMS):
        verify(sealed / "c")


def test_a_file_that_was_replaced_is_looked_at_again(sealed: Path) -> None:
    verify(sealed / "a file")
    (sealed / "other").write_bytes(b"same size!")
    os.replace(sealed / "other", sealed / "a file")
    with pytest.raises(DamagedFileError):
        verify(sealed / "a file")


def test_folders_without_a_list_are_taken_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")
    verify(tmp_path / "a")


def test_a_plan_holds_its_own_checksum(tmp_path: Path) -> None:
    path = tmp_path / "freeze_plan.json"
    PLAN.write(path)
    assert FreezePlan.read(path) == PLAN
    whole = path.read_bytes()
    for bit in range(0, 8 * len(whole), 7):
        rot(path, bit)
        try:
            # A bit in the white space at the end.
            assert FreezePlan.read(path) == PLAN
        except GraftlineError as error:
            assert error.exit_code == 2
        path.write_bytes(whole)
