"""Step ``extract``: each image goes through the frozen part once; its output is kept."""

from __future__ import annotations

import mmap
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graftline.artifacts import Assembled, Features, FreezePlan, Preprocessed, Split
from graftline.assemble import FROZEN, MODEL, RECORD, frozen_part
from graftline.freeze import POOLED
from graftline.graft import TRUNK
from graftline.litert import LiteRunner
from graftline.packed import PackedImages
from graftline.params import Params
from graftline.progress import progress
from graftline.storage import replacing_directory
from graftline.workspace import Workspace

CACHED_SPLITS: tuple[Split, ...] = ("train", "validation")
"""The test split is not among them: ``evaluate`` alone touches it."""
_BATCH = 256
_KEPT_BYTES = 8 << 20


def extract(workspace: Workspace, params: Params) -> Features:
    """Runs the frozen part over the training and validation images and keeps its outputs.

    Writes ``data/features/``: ``train.npy`` and ``validation.npy``, float32 (n, ...) in the order
    of the preprocessed manifest, and ``features.json``. When nothing below the first trainable
    layer is frozen there is nothing to keep, and only ``features.json`` is written.

    Args:
        workspace: Where the inputs lie and the output goes.
        params: Not read; the plan says all.

    Raises:
        MissingOutputError: If an earlier step has not run.
        StorageFullError: If the disk is full.
    """
    plan = FreezePlan.read(workspace.freeze_plan)
    Preprocessed.read(workspace.preprocessed / "preprocessed.json")
    images = PackedImages.open(workspace.preprocessed)
    counts: dict[Split, int] = {split: len(images.indices(split)) for split in CACHED_SPLITS}
    with replacing_directory(workspace.features) as folder:
        shape: tuple[int, ...] = ()
        if plan.boundary is not None:
            shape = _write_features(workspace, plan.boundary, images, folder)
        record = Features(boundary=plan.boundary, shape=shape, counts=counts)
        record.write(folder / "features.json")
    return record


def _write_features(
    workspace: Workspace, boundary: str, images: PackedImages, folder: Path
) -> tuple[int, ...]:
    total = sum(len(images.indices(split)) for split in CACHED_SPLITS)
    shape: tuple[int, ...] = ()
    with (
        tempfile.TemporaryDirectory(prefix="graftline-") as scratch,
        LiteRunner(_frozen_file(workspace, boundary, Path(scratch))) as runner,
        progress("extract", total, "images") as bar,
    ):
        for split in CACHED_SPLITS:
            shape = _write_split(runner, images, split, folder / f"{split}.npy", bar)
    return shape


def _write_split(
    runner: LiteRunner, images: PackedImages, split: Split, path: Path, bar: Any
) -> tuple[int, ...]:
    indices = images.indices(split)
    places: list[NDArray[np.int64]] = []

    def pixels() -> Iterator[NDArray[np.uint8]]:
        for positions, batch in images.batches(indices, _BATCH):
            places.append(positions)
            yield batch

    features: Any = None
    written_bytes = 0
    for number, outputs in enumerate(runner.run_all(pixels())):
        if features is None:
            shape = (len(indices), *outputs.shape[1:])
            features = np.lib.format.open_memmap(path, "w+", np.float32, shape)
        features[places[number]] = outputs
        written_bytes += outputs.nbytes
        if written_bytes > _KEPT_BYTES:
            # Written pages count as this process's memory until they are given back to the
            # system, which writes them to the file in its own time.
            written_bytes = 0
            features.base.madvise(mmap.MADV_DONTNEED)
        bar.advance(len(outputs))
    features.flush()
    return tuple(int(size) for size in features.shape[1:])


def _frozen_file(workspace: Workspace, boundary: str, scratch: Path) -> Path:
    """The frozen part as LiteRT: the assembled one, or a shorter one converted now."""
    if boundary == POOLED:
        return workspace.assembled / FROZEN
    import keras

    from graftline.keras_files import convert_to_litert, load_model

    assembled = Assembled.read(workspace.assembled / RECORD)
    trunk = load_model(workspace.assembled / MODEL).get_layer(TRUNK)
    prefix = keras.Model(trunk.input, trunk.get_layer(boundary).output)
    path = scratch / FROZEN
    path.write_bytes(convert_to_litert(frozen_part(prefix, assembled.size_px)))
    return path
