"""A checkpoint comes back as it was written, or not at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graftline.training import checkpoints
from graftline.training.checkpoints import Checkpoints, TrainState
from tests.unit.core.test_checksums import rot

STANDING = TrainState(
    phase="tune",
    epoch=7,
    chunks=3,
    sums=(0.1 + 0.2, 11, 96),
    history=({"epoch": 1, "loss": 1 / 3}, {"epoch": 2, "loss": float("inf")}),
    best_epoch=2,
    best_tempered=(0.7, 1 / 3),
    lowest_epochs=(1, 2),
    values=[np.arange(6, dtype=np.float32).reshape(2, 3), np.array(5, np.int64)],
    best_values=[np.ones(2, np.float32)],
    lowest_losses=[np.array([0.1, 1 / 3]), np.array([0.2, 0.1])],
)


def same(one: TrainState, other: TrainState) -> bool:
    plain = ("phase", "epoch", "chunks", "sums", "history", "best_epoch")
    plain += ("best_tempered", "lowest_epochs", "stopped")
    arrays = [*zip(one.values, other.values, strict=True)]
    arrays += zip(one.best_values, other.best_values, strict=True)
    arrays += zip(one.lowest_losses, other.lowest_losses, strict=True)
    return all(getattr(one, name) == getattr(other, name) for name in plain) and all(
        np.array_equal(a, b) and a.dtype == b.dtype for a, b in arrays
    )


def test_it_comes_back_bit_for_bit(tmp_path: Path) -> None:
    file = Checkpoints(tmp_path / "deep" / "standing.npz", "key")
    assert file.load() is None
    file.save(STANDING)
    found = Checkpoints(file.path, "key").load()
    assert found is not None
    assert same(found, STANDING)
    assert [path.name for path in file.path.parent.iterdir()] == ["standing.npz"]
    file.remove()
    assert file.load() is None


def test_one_for_other_inputs_is_nobodys(tmp_path: Path) -> None:
    Checkpoints(tmp_path / "standing.npz", "key").save(STANDING)
    assert Checkpoints(tmp_path / "standing.npz", "another").load() is None


def test_one_of_another_version_is_nobodys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "_FORMAT", checkpoints._FORMAT - 1)
    Checkpoints(tmp_path / "standing.npz", "key").save(STANDING)
    monkeypatch.undo()
    assert Checkpoints(tmp_path / "standing.npz", "key").load() is None


@given(keep=st.integers(min_value=0), flip=st.integers(min_value=0))
def test_a_damaged_file_is_none(
    tmp_path_factory: pytest.TempPathFactory, keep: int, flip: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged.npz"
    file = Checkpoints(path, "key")
    file.save(STANDING)
    whole = path.read_bytes()
    path.write_bytes(whole[: keep % len(whole)])
    assert file.load() is None
    damaged = bytearray(whole)
    damaged[flip % len(whole)] ^= 0xFF
    path.write_bytes(damaged)
    assert file.load() is None


def test_saving_is_due_after_its_time(tmp_path: Path) -> None:
    assert Checkpoints(tmp_path / "standing.npz", "key", every_s=0).due()
    late = Checkpoints(tmp_path / "standing.npz", "key", every_s=3600)
    assert not late.due()


def test_kept_arrays_that_a_disk_has_damaged_are_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    # Libraries that other tests import in this process set logging up as they like.
    monkeypatch.setattr(
        checkpoints._LOG, "warning", lambda text, *values: told.append(text % values)
    )
    path = tmp_path / "trial.npz"
    checkpoints.keep_arrays(path, {"right": np.array([True, False]), "losses": np.array([0.5, 2])})
    kept = checkpoints.kept_arrays(path)
    assert kept is not None
    assert kept["right"].tolist() == [True, False]
    assert kept["losses"].tolist() == [0.5, 2]
    rot(path, 4 * path.stat().st_size)
    assert checkpoints.kept_arrays(path) is None
    assert told == [f"{path} is damaged, and what it held is made anew; have a look at the disk"]
