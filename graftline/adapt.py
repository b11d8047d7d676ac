"""Estimating the trunk's BatchNormalization statistics anew, on the images it is to work on.

Li et al. (2017), "Revisiting batch normalization for practical domain adaptation": the weights
stay, and only what each layer takes for mean and variance becomes that of the new images.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graftline.checksums import verify
from graftline.errors import MissingOutputError
from graftline.packed import PackedImages

MOST_IMAGES = 2048
"""Means over so many images are known well enough: each channel has many places in each."""
_BATCH = 64

Statistics = dict[str, NDArray[np.float32]]
"""Means and variances, by the layer's name and ``mean`` or ``variance`` behind a slash."""


def adapted_statistics(trunk: Any, images: PackedImages, indices: NDArray[np.int64]) -> Statistics:
    """The statistics of a trunk over some images; the trunk itself is left as it was.

    Each batch is normalized by its own statistics on its way, and these are averaged over the
    batches, each weighing as many images as it has.

    Args:
        trunk: From prepared images to feature maps.
        images: The preprocessed images.
        indices: Their rows from which the first MOST_IMAGES are taken, in their order.
    """
    import tensorflow as tf

    from graftline.families import family_of
    from graftline.graft import build_preparation

    layers = _normalizations(trunk)
    if not layers:
        return {}
    before = current_statistics(trunk)
    trainable = [layer.trainable for layer in layers]
    momenta = [layer.momentum for layer in layers]
    sums: dict[str, NDArray[np.float64]] = {}
    total = 0
    try:
        for layer in layers:
            # A layer that does not train keeps to its stored statistics, whatever it is told.
            layer.trainable, layer.momentum = True, 0.0
        size_px = int(trunk.input.shape[1])
        preparation = build_preparation(size_px, family_of(trunk).scaling)
        run = tf.function(lambda batch: trunk(preparation(batch), training=True))
        for _, batch in images.batches(indices[:MOST_IMAGES], _BATCH):
            run(tf.constant(batch))
            for name, value in current_statistics(trunk).items():
                sums[name] = sums.get(name, 0.0) + value.astype(np.float64) * len(batch)
            total += len(batch)
    finally:
        for layer, was, momentum in zip(layers, trainable, momenta, strict=True):
            layer.trainable, layer.momentum = was, momentum
        set_statistics(trunk, before)
    return {name: (value / total).astype(np.float32) for name, value in sums.items()}


def current_statistics(trunk: Any) -> Statistics:
    """The statistics that a trunk holds."""
    found = {}
    for layer in _normalizations(trunk):
        found[f"{layer.name}/mean"] = layer.moving_mean.numpy()
        found[f"{layer.name}/variance"] = layer.moving_variance.numpy()
    return found


def set_statistics(trunk: Any, statistics: Statistics) -> None:
    """Gives a trunk, which may end earlier than the one they were taken from, its statistics."""
    for layer in _normalizations(trunk):
        layer.moving_mean.assign(statistics[f"{layer.name}/mean"])
        layer.moving_variance.assign(statistics[f"{layer.name}/variance"])


def write_statistics(statistics: Statistics, path: Path) -> None:
    """Writes them as arrays by name."""
    with path.open("wb") as file:
        np.savez(file, allow_pickle=False, **statistics)


def read_statistics(path: Path) -> Statistics:
    """Reads what :func:`write_statistics` wrote.

    Raises:
        DamagedFileError: If its folder lists another checksum for it.
        MissingOutputError: If it is not there.
    """
    verify(path)
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError) as error:
        raise MissingOutputError(
            f"{path} is not there yet",
            where=str(path),
            fix="run dvc repro, or graftline extract",
        ) from error


def _normalizations(trunk: Any) -> list[Any]:
    return [layer for layer in trunk.layers if type(layer).__name__ == "BatchNormalization"]
