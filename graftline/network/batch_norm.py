"""Estimating the backbone's BatchNormalization statistics anew, on the images it is to work on.

Li et al. (2017), "Revisiting batch normalization for practical domain adaptation": the weights
stay, and only what each layer takes for mean and variance becomes that of the new images.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graftline.core.checksums import verify
from graftline.core.errors import MissingOutputError
from graftline.data.shards import PackedImages

MOST_IMAGES = 2048
"""Means over so many images are known well enough: each channel has many places in each."""
_BATCH = 64

Statistics = dict[str, NDArray[np.float32]]
"""Means and variances, by the layer's name and ``mean`` or ``variance`` behind a slash."""


def adapted_statistics(
    backbone: Any, images: PackedImages, indices: NDArray[np.int64]
) -> Statistics:
    """The statistics of a backbone over some images; the backbone itself is left as it was.

    The images go through in batches of about the same size, none of fewer than half of _BATCH if
    there are that many; images of different shapes go together, each prepared by itself.

    Args:
        backbone: From prepared images to feature maps.
        images: The preprocessed images.
        indices: Their rows from which the first MOST_IMAGES are taken, in their order.
    """
    from graftline.core.backbones import family_of
    from graftline.network.classifier import build_preparation

    if not _normalizations(backbone):
        return {}
    preparation = build_preparation(int(backbone.input.shape[1]), family_of(backbone).scaling)

    def prepared(chunk: NDArray[np.int64]) -> NDArray[np.float32]:
        values = np.empty((len(chunk), *preparation.output.shape[1:]), np.float32)
        for positions, batch in images.batches(chunk, _BATCH):
            values[positions] = preparation(batch).numpy()
        return values

    taken = indices[:MOST_IMAGES]
    chunks = np.array_split(taken, -(-len(taken) // _BATCH))
    return statistics_over(backbone, map(prepared, chunks))


def statistics_over(backbone: Any, batches: Iterable[NDArray[np.float32]]) -> Statistics:
    """The statistics of a backbone over what it is given, each image weighing the same.

    Each batch is normalized by its own statistics on its way. Only so do the layers see in one
    pass what they will see with the new statistics; all at once, pass after pass, the statistics
    run away from each other. All else computes as in inference: no dropout, no noise.

    Mean and variance over all batches follow from theirs without loss: the variance is the mean of
    the variances and the variance of the means.

    Args:
        backbone: From prepared images to feature maps; it is left as it was.
        batches: Prepared images, each (n, height, width, channels).
    """
    import tensorflow as tf

    network = _normalizing_by_batch(backbone)
    run = tf.function(lambda batch: network(batch, training=False), reduce_retracing=True)
    counts: list[int] = []
    found: dict[str, list[NDArray[np.float64]]] = {}
    for batch in batches:
        run(tf.constant(batch))
        counts.append(len(batch))
        for name, value in current_statistics(network).items():
            found.setdefault(name, []).append(value.astype(np.float64))
    statistics = {}
    for layer in _normalizations(network):
        means, variances = (np.stack(found[f"{layer.name}/{of}"]) for of in ("mean", "variance"))
        mean = np.average(means, axis=0, weights=counts)
        variance = np.average(variances + (means - mean) ** 2, axis=0, weights=counts)
        statistics[f"{layer.name}/mean"] = mean.astype(np.float32)
        statistics[f"{layer.name}/variance"] = variance.astype(np.float32)
    return statistics


def _normalizing_by_batch(backbone: Any) -> Any:
    """A copy whose BatchNormalization layers go by each batch's statistics, and then hold them."""
    import keras

    class ByBatch(keras.layers.BatchNormalization):  # type: ignore[misc]
        def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
            return super().call(inputs, training=True, mask=mask)

    def copied(layer: Any) -> Any:
        config = layer.get_config()
        if not _normalizes(layer):
            return type(layer).from_config(config)
        # One that does not train keeps to its stored statistics, whatever it is told.
        return ByBatch.from_config(config | {"momentum": 0.0, "trainable": True})

    network = keras.models.clone_model(backbone, clone_function=copied)
    for layer in backbone.layers:
        if layer.weights:
            network.get_layer(layer.name).set_weights(layer.get_weights())
    return network


def current_statistics(backbone: Any) -> Statistics:
    """The statistics that a backbone holds."""
    found = {}
    for layer in _normalizations(backbone):
        found[f"{layer.name}/mean"] = layer.moving_mean.numpy()
        found[f"{layer.name}/variance"] = layer.moving_variance.numpy()
    return found


def set_statistics(backbone: Any, statistics: Statistics) -> None:
    """Gives a backbone, which may end earlier than the one they were taken from, its statistics."""
    for layer in _normalizations(backbone):
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
            f"{path} is not there yet", where=str(path), fix="run dvc repro, or graftline extract"
        ) from error


def _normalizations(backbone: Any) -> list[Any]:
    return [layer for layer in backbone.layers if _normalizes(layer)]


def _normalizes(layer: Any) -> bool:
    import keras

    return isinstance(layer, keras.layers.BatchNormalization)
