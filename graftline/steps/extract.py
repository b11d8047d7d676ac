"""Step ``extract``: each image goes through the frozen part once; its outputs are kept."""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graftline.core.files import replacing_directory, scratch_folder
from graftline.core.params import Params
from graftline.core.progress import progress
from graftline.core.records import Assembled, Features, FreezePlan, Preprocessed, Split
from graftline.core.stages import POOLED
from graftline.core.workspace import Workspace
from graftline.data.decoding import Pixels
from graftline.data.npy import ArrayWriter, narrowed
from graftline.data.shards import PackedImages
from graftline.network.assembled import planned_backbone
from graftline.network.classifier import build_pooling, frozen_part
from graftline.network.runners.choosing import Computing, computing_of
from graftline.network.runners.runner import Runner
from graftline.steps.assemble import FROZEN
from graftline.training.feature_cache import (
    cached_rows,
    has_maps,
    planned_features,
    refuse_overfull,
)
from graftline.training.label_safety import LABEL_SAFETY, check_labels, judge_labels

_LOG = logging.getLogger(__name__)
CACHED_SPLITS: tuple[Split, ...] = ("train", "validation")
"""The test split is not among them: ``evaluate`` alone touches it."""
STATISTICS = "batch_norm.npz"
"""The backbone's BatchNormalization statistics over these images, where the plan adapts them."""

Change = Callable[[Pixels, NDArray[np.int64], int], Pixels]
"""From images, their positions in the split and a view's number to that view of them."""


def extract(workspace: Workspace, params: Params) -> Features:
    """Runs the frozen part over the training and validation images and keeps its outputs.

    Writes ``data/features/``, in the order of the preprocessed manifest:

    - ``train.npy``, ``validation.npy`` (n, ...): outputs at the plan's boundary, unless there is
      none or they would take more than ``extract.max_cache_gb``;
    - ``train-pooled.npy``, ``validation-pooled.npy``, float32 (n, c): pooled features at the cut,
      if these are not what ``train.npy`` holds;
    - ``features.json``, ``label_safety.json`` if images are augmented, and ``batch_norm.npz`` if
      the plan adapts the backbone's statistics.

    With augmentation the training split's arrays have one more axis in front, that of the views.

    Args:
        workspace: Where the inputs lie and the output goes.
        params: ``seed``, ``augment``, ``extract`` and ``compute.device`` are read.

    Raises:
        ParamsError: If an augmentation changes what images show, or if a GPU is asked for and there
            is none.
        MissingOutputError: If an earlier step has not run.
        StorageFullError: If the disk has no room for them, before anything is computed.
    """
    plan = FreezePlan.read_in(workspace)
    assembled = Assembled.read_in(workspace)
    Preprocessed.read_in(workspace)
    computing = computing_of(params.compute.device, plan.precision)
    images = PackedImages.open(workspace.preprocessed)
    counts: dict[Split, int] = {split: len(images.indices(split)) for split in CACHED_SPLITS}
    record = planned_features(assembled, plan, counts, params.augment, params.extract)
    workspace.features.parent.mkdir(parents=True, exist_ok=True)
    refuse_overfull(record, workspace.features)
    if record.uncached_reason is not None and plan.boundary is not None:
        _LOG.warning("no feature maps are cached, since %s", record.uncached_reason)
    with (
        replacing_directory(workspace.features, sealed=True) as folder,
        scratch_folder() as scratch,
        _Frozen(workspace, assembled, plan, record, computing).runner(
            images, folder, scratch
        ) as runner,
    ):
        change: Change = _unchanged
        if params.augment.active:
            from graftline.training.augment import AugmentedViews

            _check_labels(params, runner, record, images, assembled.classes, folder)
            change = AugmentedViews(params.augment, params.seed, counts["train"]).changed
        _write_splits(runner, record, images, change, folder)
        record.write(folder / record.file_name())
    return record


def _unchanged(images: Pixels, _positions: NDArray[np.int64], _view: int) -> Pixels:
    return images


def _check_labels(
    params: Params,
    runner: Runner,
    record: Features,
    images: PackedImages,
    classes: tuple[str, ...],
    folder: Path,
) -> None:
    if record.views == 1:
        _LOG.warning(
            "augment.views is 1, so that the only view that is cached is the unchanged one"
        )

    size = _batch_size(runner, record)

    def pooled(pixels: Pixels) -> NDArray[np.float32]:
        pieces = (pixels[at : at + size] for at in range(0, len(pixels), size))
        # Copies, or each piece would hold its feature maps.
        return np.concatenate(
            [runner.run(piece)[:, -record.pooled_dim :].copy() for piece in pieces]
        )

    safety = check_labels(images, classes, params.augment, params.seed, pooled)
    judge_labels(safety, params.augment)
    safety.write(folder / LABEL_SAFETY)


@dataclass(frozen=True)
class _Files:
    """Where one split's outputs go: maps, pooled features, or both."""

    maps: ArrayWriter | None
    pooled: ArrayWriter

    def put(self, rows: NDArray[np.int64], outputs: NDArray[np.float32]) -> None:
        """Keeps the outputs of some images, (n, map values if there are any + pooled features)."""
        if self.maps is None:
            self.pooled.put(rows, outputs)
            return
        self.maps.put(rows, narrowed(outputs[:, : self.maps.row_size], self.maps.dtype))
        self.pooled.put(rows, outputs[:, self.maps.row_size :])


def _write_splits(
    runner: Runner, record: Features, images: PackedImages, change: Change, folder: Path
) -> None:
    with progress("extract", cached_rows(record), "images") as bar:
        for split in CACHED_SPLITS:
            views = record.views if split == "train" else 1
            indices = images.indices(split)
            with ExitStack() as opened:
                files = _open_files(opened, record, split, folder, len(indices) * views)
                for view in range(views):
                    _write_view(runner, record, images, indices, change, view, files, bar)


def _open_files(
    opened: ExitStack, record: Features, split: Split, folder: Path, rows: int
) -> _Files:
    def writer(name: str, dtype: str, row_shape: tuple[int, ...]) -> ArrayWriter:
        axes: tuple[int, ...] = (rows,)
        if split == "train" and record.views > 1:
            axes = (record.views, rows // record.views)
        return opened.enter_context(ArrayWriter(folder / name, dtype, axes, row_shape))

    pooled_shape = (record.pooled_dim,)
    if record.boundary == POOLED:
        return _Files(None, writer(f"{split}.npy", "float32", pooled_shape))
    maps = None
    if record.boundary is not None and record.dtype is not None:
        maps = writer(f"{split}.npy", record.dtype, record.shape)
    return _Files(maps, writer(f"{split}-pooled.npy", "float32", pooled_shape))


def _write_view(
    runner: Runner,
    record: Features,
    images: PackedImages,
    indices: NDArray[np.int64],
    change: Change,
    view: int,
    files: _Files,
    bar: Any,
) -> None:
    under_way: deque[NDArray[np.int64]] = deque()

    def pixels() -> Iterator[Pixels]:
        for positions, batch in images.batches(indices, _batch_size(runner, record)):
            under_way.append(positions)
            yield change(batch, positions, view)

    for outputs in runner.run_all(pixels()):
        files.put(under_way.popleft() + view * len(indices), outputs)
        bar.advance(len(outputs))


def _batch_size(runner: Runner, record: Features) -> int:
    return runner.batch_size(
        record.pooled_dim + (math.prod(record.shape) if has_maps(record) else 0)
    )


@dataclass(frozen=True)
class _Frozen:
    """The frozen part, on its way to what runs it."""

    workspace: Workspace
    assembled: Assembled
    plan: FreezePlan
    record: Features
    computing: Computing

    def runner(self, images: PackedImages, folder: Path, scratch: Path) -> Runner:
        """Runs the file that ``assemble`` left, or another one that is converted now."""
        record, adapts, computing = self.record, self.plan.batch_norm == "adapt", self.computing
        as_assembled = not has_maps(record) and record.cut == self.assembled.cut and not adapts
        if as_assembled and computing.takes_litert:
            return computing.open(self.workspace.assembled / FROZEN)
        backbone = planned_backbone(self.workspace, record.cut)
        if adapts:
            self._adapt(backbone, images, folder)
        pooling = build_pooling(self.assembled.pooling)
        if record.boundary is not None and has_maps(record):
            size_px = self.assembled.size_px
            function = _maps_and_pooled(backbone, record.boundary, size_px, pooling)
        else:
            function = frozen_part(backbone, self.assembled.size_px, pooling)
        path = scratch / f"frozen{computing.ending}"
        computing.convert(function, backbone, path)
        return computing.open(path)

    def _adapt(self, backbone: Any, images: PackedImages, folder: Path) -> None:
        from graftline.network.batch_norm import (
            adapted_statistics,
            set_statistics,
            write_statistics,
        )

        statistics = adapted_statistics(backbone, images, images.indices("train"))
        set_statistics(backbone, statistics)
        write_statistics(statistics, folder / STATISTICS)


def _maps_and_pooled(backbone: Any, boundary: str, size_px: int, pooling: Any) -> Any:
    """The function from images to both kinds of features (n, h * w * c + d), in one pass."""
    import keras
    from keras import ops

    maps = backbone.get_layer(boundary).output  # (n, h, w, c)
    values = math.prod(int(size) for size in maps.shape[1:])

    def joined(outputs: Any) -> Any:
        lower, upper = outputs
        return ops.concatenate([ops.reshape(lower, (-1, values)), pooling(upper)], axis=1)

    return frozen_part(keras.Model(backbone.input, [maps, backbone.output]), size_px, joined)
