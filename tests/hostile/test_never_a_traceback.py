"""Hostile input by the hundred; ``make fuzz`` runs the same properties for minutes.

Each ``example`` is something that was found so, and mended.
"""

from __future__ import annotations

import gzip
import io
import struct

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import example, given, settings

from tests.hostile import strategies
from tests.hostile.case import Case
from tests.hostile.checked import check
from tests.unit.data.loading import encoded, idx_images, idx_labels, pixels

quick = settings(max_examples=10, deadline=None)
SOUND = b"data: {source: mnist-5k}\nbackbone: {weights: random}\n"


def idx(images: bytes, labels: bytes, ending: str = "") -> Case:
    return Case(
        "idx",
        {
            f"source/train-images-idx3-ubyte{ending}": images,
            f"source/train-labels-idx1-ubyte{ending}": labels,
        },
    )


def zeros_idx(count: int, side: int) -> Case:
    """A kilobyte that tells of millions of images; zeros to prove it would cost nothing."""
    labels = struct.pack(">2I", 0x801, count) + bytes(10_000)
    images = struct.pack(">4I", 0x803, count, side, side)
    return idx(gzip.compress(images, 1), gzip.compress(labels, 1), ".gz")


def npz(**arrays: np.ndarray) -> Case:
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return Case("npz", {"source/set.npz": file.getvalue()})


def one_long_value(rows: int, length: int) -> Case:
    """A Parquet table that holds one text once, and names it in every row."""
    paths = pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), ["x" * length])
    table = pa.table({"path": paths, "label": ["a"] * rows})
    file = io.BytesIO()
    # Without Arrow's own schema a reader takes the column for plain text.
    pq.write_table(table, file, compression="zstd", store_schema=False)
    return Case("manifest", {"source/table.parquet": file.getvalue()}, ["table.parquet"])


def params(text: str | bytes, *words: str) -> Case:
    data = text.encode() if isinstance(text, str) else text
    return Case("params", {"params.yaml": data}, words)


def predict(*words: str) -> Case:
    files = {
        "image": encoded(pixels(1)),
        "model/trained.json": b"{}",
        "broken/trained.json": b"\xff\xfe",
    }
    return Case("command", files, ["predict", *words])


@quick
@given(strategies.image_cases())
def test_images(case: Case) -> None:
    check(case)


@quick
@given(strategies.folder_cases())
@example(Case("folder", {"source/\x1b[2J/a.png": b"", "source/b/\x1b]0;x\x07.png": b"x"}))
def test_folders(case: Case) -> None:
    check(case)


@quick
@given(strategies.idx_cases())
@example(zeros_idx(100_000_000, 1))
@example(zeros_idx(1_000_000, 1000))
@example(idx(idx_images(np.zeros((2, 2, 2), np.uint8)) + bytes(1), idx_labels(np.arange(2))))
def test_idx_files(case: Case) -> None:
    check(case)


@quick
@given(strategies.npz_cases())
@example(npz(images=np.zeros((2, 2, 2), np.uint8), labels=np.full(2, b"\xff")))
@example(npz(images=np.zeros((2, 2, 2), np.uint8), labels=np.zeros(2, "S20000000")))
@example(npz(images=np.zeros((2, 2, 2), np.uint8), labels=np.zeros(40_000_000, np.uint8)))
def test_npz_files(case: Case) -> None:
    check(case)


@quick
@given(strategies.manifest_cases())
@example(one_long_value(rows=20_000, length=100_000))
@example(Case("manifest", {"source/t.csv": b"path,label\n" + b"=cmd|x,a\n" * 2_000}, ["t.csv"]))
def test_manifests(case: Case) -> None:
    check(case)


@quick
@given(strategies.params_cases())
@example(params(strategies.LAUGHS))
@example(params(strategies.MERGED_LAUGHS))
@example(params("seed: " + "[" * 30_000))
@example(params(b"#" * 2_000_000))
@example(params("# nothing\n", "data.source=mnist-5k", "backbone.weights=random"))
@example(params(SOUND, "freeze.strategy.last_blocks=2", "freeze.strategy=all"))
@example(params(SOUND, "train.epochs=" + "[" * 3000))
@example(params(SOUND, "data.path=\udcff"))
@example(params(SOUND, "register.model_name=\x1b[31m"))
def test_parameters(case: Case) -> None:
    check(case)


@quick
@given(strategies.command_cases())
@example(predict("/dev/zero", "--model=@/model"))
@example(predict("@/" + "x" * 5000, "--model=@/model"))
@example(predict("@/\0", "@/a**b", "@/\udcff", "--model=@/model"))
@example(predict("@/image", "--model=@/broken"))
def test_command_lines(case: Case) -> None:
    check(case)


@quick
@given(strategies.hdf5_cases())
def test_weights_files(case: Case) -> None:
    check(case)
