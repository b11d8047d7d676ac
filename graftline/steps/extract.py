"""Step ``extract``: each image goes through the frozen part once; its outputs are kept."""

from __future__ import annotations

import logging
import math
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from graftline.compute import Arrays, map_chunks, resources_of
from graftline.compute.devices import settled_device
from graftline.core.files import replacing_directory
from graftline.core.params import AugmentParams, Params
from graftline.core.progress import progress
from graftline.core.records import Assembled, Features, FreezePlan, Preprocessed, Split
from graftline.core.stages import POOLED
from graftline.core.workspace import Workspace
from graftline.data.decoding import Pixels
from graftline.data.npy import ArrayWriter, narrowed
from graftline.data.shards import PackedImages
from graftline.network.assembled import FROZEN, planned_backbone
from graftline.network.classifier import build_pooling, frozen_part
from graftline.network.runners.choosing import Computing, computing_of
from graftline.network.runners.runner import Runner
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
    settled_device(params.compute.device)
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
        # In the project, where other machines see it too.
        tempfile.TemporaryDirectory(dir=folder) as scratch,
    ):
        frozen = _Frozen(workspace, assembled, plan, record, computing)
        file = frozen.file(images, folder, Path(scratch))
        work = Running(workspace, file, computing, record, params.augment, params.seed)
        with computing.open(file) as runner:
            if params.augment.active:
                _check_labels(params, runner, record, images, assembled.classes, folder)
            _write_splits(work, images, runner, folder)
        record.write(folder / record.file_name())
    return record


def _unchanged(images: Pixels, _positions: NDArray[np.int64], _view: int) -> Pixels:
    return images


class Rows(NamedTuple):
    """Some rows of the output: a view of images of one split."""

    split: Split
    view: int
    positions: NDArray[np.int64]
    """Of the images, in the split."""


@dataclass(frozen=True)
class Running:
    """Runs the frozen part over images, in whichever process.

    Args:
        workspace: Where ``data/preprocessed/`` lies.
        file: The frozen part.
        computing: What runs it.
        record: What is kept of its outputs.
        augment: What changes the views.
        seed: The seed of these changes.
    """

    workspace: Workspace
    file: Path
    computing: Computing
    record: Features
    augment: AugmentParams
    seed: int

    @contextmanager
    def opened(self) -> Iterator[Callable[[Rows], Arrays]]:
        """Gives the function from rows to their ``pooled`` features, and ``maps`` if any."""
        images = PackedImages.open(self.workspace.preprocessed)
        with self.computing.open(self.file) as runner:
            yield self.function(runner, images)

    def function(self, runner: Runner, images: PackedImages) -> Callable[[Rows], Arrays]:
        """The function, where the frozen part and the images are open already."""
        indices = {split: images.indices(split) for split in CACHED_SPLITS}
        return partial(_outputs, self.record, runner, images, indices, self._change())

    def _change(self) -> Change:
        if not self.augment.active:
            return _unchanged
        from graftline.training.augment import AugmentedViews

        return AugmentedViews(self.augment, self.seed, self.record.counts["train"]).changed


def _outputs(
    record: Features,
    runner: Runner,
    images: PackedImages,
    indices: dict[Split, NDArray[np.int64]],
    change: Change,
    rows: Rows,
) -> Arrays:
    batch = images.batch(indices[rows.split][rows.positions])
    outputs = runner.run(change(batch, rows.positions, rows.view))
    if not has_maps(record):
        return {"pooled": outputs}
    values = math.prod(record.shape)
    maps = narrowed(outputs[:, :values], str(record.dtype))
    return {"maps": maps, "pooled": outputs[:, values:]}


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

    def put(self, rows: NDArray[np.int64], outputs: Arrays) -> None:
        """Keeps the outputs of some images; see :class:`Running`."""
        if self.maps is not None:
            self.maps.put(rows, outputs["maps"])
        self.pooled.put(rows, outputs["pooled"])


def _write_splits(work: Running, images: PackedImages, runner: Runner, folder: Path) -> None:
    record, here = work.record, work.function(runner, images)
    with ExitStack() as opened, progress("extract", cached_rows(record), "images") as bar:
        files = {split: _open_files(opened, record, split, folder) for split in CACHED_SPLITS}
        # Two at once: no interpreter waits for the others at the end of a batch, and a GPU computes
        # one while the other is copied.
        rows = _rows(record, images, _batch_size(runner, record))
        device = "cpu" if work.computing.takes_litert else "gpu"
        chunks = map_chunks(
            "outputs", work, rows, here=here, at_once=2, resources=resources_of(device)
        )
        for (split, view, positions), outputs in chunks:
            files[split].put(positions + view * record.counts[split], outputs)
            bar.advance(len(positions))


def _rows(record: Features, images: PackedImages, batch_size: int) -> Iterator[Rows]:
    for split in CACHED_SPLITS:
        for view in range(record.views if split == "train" else 1):
            for positions in images.positions(images.indices(split), batch_size):
                yield Rows(split, view, positions)


def _open_files(opened: ExitStack, record: Features, split: Split, folder: Path) -> _Files:
    def writer(name: str, dtype: str, row_shape: tuple[int, ...]) -> ArrayWriter:
        axes: tuple[int, ...] = (record.counts[split],)
        if split == "train" and record.views > 1:
            axes = (record.views, *axes)
        return opened.enter_context(ArrayWriter(folder / name, dtype, axes, row_shape))

    pooled_shape = (record.pooled_dim,)
    if record.boundary == POOLED:
        return _Files(None, writer(f"{split}.npy", "float32", pooled_shape))
    maps = None
    if record.boundary is not None and record.dtype is not None:
        maps = writer(f"{split}.npy", record.dtype, record.shape)
    return _Files(maps, writer(f"{split}-pooled.npy", "float32", pooled_shape))


def _batch_size(runner: Runner, record: Features) -> int:
    return runner.batch_size(
        record.pooled_dim + (math.prod(record.shape) if has_maps(record) else 0)
    )


@dataclass(frozen=True)
class _Frozen:
    """The frozen part, on its way to a file."""

    workspace: Workspace
    assembled: Assembled
    plan: FreezePlan
    record: Features
    computing: Computing

    def file(self, images: PackedImages, folder: Path, scratch: Path) -> Path:
        """The file that ``assemble`` left, or another one that is converted now."""
        record, adapts, computing = self.record, self.plan.batch_norm == "adapt", self.computing
        as_assembled = not has_maps(record) and record.cut == self.assembled.cut and not adapts
        if as_assembled and computing.takes_litert:
            return self.workspace.assembled / FROZEN
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
        return path

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
