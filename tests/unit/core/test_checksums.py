"""Rot: other bytes under the same name, size and time."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graftline.core.checksums import CHECKSUMS, seal, verify, verify_all
from graftline.core.errors import DamagedFileError
from graftline.core.files import replacing_directory
from graftline.core.records import FreezePlan, Metrics

PLAN = FreezePlan(
    strategy="last_blocks: 1",
    cut="block_2_add",
    boundary="block_1_project_BN",
    trainable=("block_2_expand",),
    batch_norm="keep",
    measured=False,
    reason="as asked",
)
METRICS = Metrics(
    test_accuracy=0.975,
    test_accuracy_low=0.96,
    test_accuracy_high=0.99,
    test_loss=0.09,
    test_macro_f1=0.97,
    expected_calibration_error=0.01,
    majority_baseline=0.5,
    test_images=1000,
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


def test_the_list_is_one_that_xxh128sum_reads(tmp_path: Path) -> None:
    with replacing_directory(tmp_path / "out", sealed=True) as folder:
        (folder / "nothing").write_bytes(b"")
    # As xxHash's own tests have it for no bytes.
    known = "99aa06d3014798d86001c324468d497f"
    assert (tmp_path / "out" / CHECKSUMS).read_text() == f"{known}  nothing\n"


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
    assert "copy it anew from where it was made" in str(caught.value)
    # In a checkout, among what the steps have written.
    (sealed.parent / "dvc.yaml").write_text("")
    sealed.rename(sealed.with_name("data"))
    with pytest.raises(DamagedFileError, match="run graftline mend"):
        verify(sealed.with_name("data") / "a file")


@given(bit=st.integers(0, 10_000))
def test_a_bit_in_the_list_is_noticed(tmp_path_factory: pytest.TempPathFactory, bit: int) -> None:
    folder = tmp_path_factory.mktemp("out")
    (folder / "a").write_bytes(b"some bytes")
    seal(folder)
    rot(folder / CHECKSUMS, bit)
    with pytest.raises(DamagedFileError, match=CHECKSUMS + "|a is damaged"):
        verify(folder / "a")


def test_a_folder_below_is_held_to_the_same_list(sealed: Path) -> None:
    rot(sealed / "below" / "b", 3)
    verify(sealed / "a file")
    with pytest.raises(DamagedFileError, match="below/b is damaged"):
        verify_all(sealed)


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


@pytest.mark.parametrize("record", [PLAN, METRICS], ids=["plan", "metrics"])
def test_what_is_alone_holds_its_own_checksum(tmp_path: Path, record: FreezePlan | Metrics) -> None:
    path = tmp_path / "record.json"
    record.write(path)
    assert type(record).read(path) == record
    whole = path.read_bytes()
    for bit in range(0, 8 * len(whole), 7):
        rot(path, bit)
        with pytest.raises(DamagedFileError, match="record.json is damaged"):
            type(record).read(path)
        path.write_bytes(whole)


def test_metrics_of_an_earlier_version_have_no_checksum(tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    path.write_text(METRICS.model_dump_json(indent=2, exclude={"classes"}) + "\n")
    assert Metrics.read(path) == METRICS


def test_a_list_above_the_checkout_is_somebody_elses(tmp_path: Path) -> None:
    (tmp_path / CHECKSUMS).write_text(f"{'0' * 64}  archive.zip\n")
    root = tmp_path / "checkout"
    root.mkdir()
    (root / "dvc.yaml").touch()
    METRICS.write(root / "reports" / "metrics.json")
    assert Metrics.read(root / "reports" / "metrics.json") == METRICS
