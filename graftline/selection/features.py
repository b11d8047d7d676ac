"""One pass of the frozen backbone over a sample: pooled features at several depths at once.

The pass keeps what it has, piece by piece, so a killed one goes on where it was.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from graftline.compute import Arrays, map_chunks, refuse_unseen, resources_of
from graftline.core.files import replacing_file
from graftline.core.progress import progress
from graftline.core.records import Assembled
from graftline.core.workspace import Workspace
from graftline.data.decoding import Pixels
from graftline.data.shards import PackedImages
from graftline.network.assembled import WHOLE_BACKBONE
from graftline.network.classifier import frozen_part
from graftline.network.runners.choosing import LITERT, Computing
from graftline.network.runners.runner import Runner
from graftline.selection.depths import Depth
from graftline.training.checkpoints import keep_arrays, kept_arrays

_MODEL = "depths"
_PIECE = 512
_TIMED_S = 0.3
_TIMED_IMAGES = 64

Change = Callable[[Pixels, NDArray[np.int64]], Pixels]
"""From images and their rows to what is looked at instead of them."""


def unchanged(images: Pixels, _rows: NDArray[np.int64]) -> Pixels:
    """The images themselves."""
    return images


class Piece(NamedTuple):
    """Some of the images.

    Args:
        path: Where their features are kept.
        positions: In the preprocessed manifest, (n,).
    """

    path: Path
    positions: NDArray[np.int64]


@dataclass(frozen=True)
class Pieces:
    """Computes features piece by piece, in whichever process.

    Args:
        model: The frozen part, as a file of ``computing``.
        computing: What runs it.
        images: The folder of the preprocessed images.
    """

    model: Path
    computing: Computing
    images: Path

    @contextmanager
    def opened(self) -> Iterator[Callable[[Piece], Arrays]]:
        """Gives the function from a piece to its features, computed or read where they are kept."""
        refuse_unseen([self.model, self.images])
        images = PackedImages.open(self.images)
        with self.computing.open(self.model) as runner:

            def found(piece: Piece) -> Arrays:
                if (kept := kept_arrays(piece.path)) is not None:
                    return kept
                return {"features": outputs_in_order(runner, images, piece.positions)}

            yield found


def pooled_features(
    workspace: Workspace,
    assembled: Assembled,
    depths: Sequence[Depth],
    positions: NDArray[np.int64],
    folder: Path,
    computing: Computing = LITERT,
) -> list[NDArray[np.float32]]:
    """Pooled features of images at each depth.

    Args:
        workspace: Where images and backbone lie.
        assembled: The backbone.
        depths: Where to look.
        positions: Of the images, in the preprocessed manifest, (n,).
        folder: Where finished pieces are kept.
        computing: What runs the backbone.

    Returns:
        For each depth, float32 (n, channels).
    """
    pieces = [
        Piece(folder / f"features-{number:05d}.npz", positions[at : at + _PIECE])
        for number, at in enumerate(range(0, len(positions), _PIECE))
    ]
    kept = [kept_arrays(piece.path) for piece in pieces]
    if any(one is None for one in kept):
        model = _converted(_whole_backbone(workspace), assembled, depths, folder, computing)
        work = Pieces(model, computing, workspace.preprocessed)
        needed = resources_of("cpu" if computing.takes_litert else "gpu")
        with work.opened() as here, progress("profile", len(positions), "images") as bar:
            # A runner uses all cores for one piece.
            chunks = map_chunks("profile", work, pieces, here=here, at_once=1, resources=needed)
            for number, (piece, found) in enumerate(chunks):
                if kept[number] is None:
                    keep_arrays(piece.path, found)
                    kept[number] = dict(found)
                bar.advance(len(piece.positions))
    joined = np.concatenate([one["features"] for one in kept if one is not None])
    return np.split(joined, np.cumsum([depth.features for depth in depths])[:-1], axis=1)


def images_per_second(
    workspace: Workspace,
    assembled: Assembled,
    depths: Sequence[Depth],
    positions: NDArray[np.int64],
    folder: Path,
    computing: Computing = LITERT,
) -> dict[str, float]:
    """How fast the backbone runs on this machine when it is cut at some depths.

    For people alone: no choice reads it, since it changes from one run to the next.
    """
    images = PackedImages.open(workspace.preprocessed)
    _, batch = next(images.batches(positions, _TIMED_IMAGES))
    speeds, base = {}, _whole_backbone(workspace)
    for depth in depths:
        with computing.open(_converted(base, assembled, [depth], folder, computing)) as runner:
            runner.run(batch)
            begun_s, done = time.monotonic(), 0
            while (elapsed_s := time.monotonic() - begun_s) < _TIMED_S:
                done += len(runner.run(batch))
            speeds[depth.layer] = done / elapsed_s
    (folder / f"{_MODEL}{computing.ending}").unlink(missing_ok=True)
    return speeds


def outputs_in_order(
    runner: Runner, images: PackedImages, positions: NDArray[np.int64]
) -> NDArray[np.float32]:
    """A frozen part's outputs for some images, one at least, (n, ...) in their order.

    Args:
        runner: The frozen part.
        images: The preprocessed images.
        positions: Of the images, in the preprocessed manifest, (n,).
    """
    found: NDArray[np.float32] = np.empty(0, np.float32)
    for rows, outputs in outputs_by_batch(runner, images, positions):
        if not len(found):
            found = np.empty((len(positions), *outputs.shape[1:]), np.float32)
        found[rows] = outputs
    return found


def outputs_by_batch(
    runner: Runner,
    images: PackedImages,
    positions: NDArray[np.int64],
    batch_size: int | None = None,
    change: Change = unchanged,
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
    """A frozen part's outputs for some images, batch by batch as they are ready.

    Args:
        runner: The frozen part.
        images: The preprocessed images.
        positions: Of the images, in the preprocessed manifest, (n,).
        batch_size: Images of a batch, at most; by default as many as suit pooled features.
        change: What is done to images before, by their rows among ``positions``.

    Yields:
        Rows among ``positions``, (batch,), and outputs, (batch, ...).
    """
    under_way: deque[NDArray[np.int64]] = deque()
    batch_size = batch_size or runner.batch_size(runner.output_dims[0])

    def pixels() -> Iterator[Pixels]:
        for rows, batch in images.batches(positions, batch_size):
            under_way.append(rows)
            yield change(batch, rows)

    for outputs in runner.run_all(pixels()):
        yield under_way.popleft(), outputs


def _whole_backbone(workspace: Workspace) -> Any:
    from graftline.network.keras_io import load_model

    return load_model(workspace.assembled / WHOLE_BACKBONE)


def _converted(
    base: Any, assembled: Assembled, depths: Sequence[Depth], folder: Path, computing: Computing
) -> Path:
    """Raw images to the pooled features of all depths side by side, as a file."""
    import keras

    from graftline.network.classifier import build_pooling

    backbone = keras.Model(base.input, [base.get_layer(depth.layer).output for depth in depths])
    pooling = build_pooling(assembled.pooling)

    def pooled(maps: Any) -> Any:
        each = maps if isinstance(maps, (list, tuple)) else [maps]
        return keras.ops.concatenate([pooling(one) for one in each], axis=-1)

    path = folder / f"{_MODEL}{computing.ending}"
    with replacing_file(path) as temporary:
        computing.convert(frozen_part(backbone, assembled.size_px, pooled), backbone, temporary)
    return path
