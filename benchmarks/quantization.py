"""What limits 8 bits: the trained model in a checkout, quantized in several ways.

Usage, in a checkout whose pipeline has run:

    python -m benchmarks.quantization

Each way is held against ``model.tflite`` on the validation split, which neither training's
weights nor the calibration have seen. As exported: a scale per channel of the weights, values in 8
bits, ranges from 200 training images; only that enlarging and scaling stay in 32 bits here.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graftline.core.records import Trained
from graftline.core.startup import import_keras
from graftline.core.workspace import LITERT_FILE, Workspace
from graftline.data.shards import PackedImages
from graftline.formats.agreement import Agreement
from graftline.formats.converters import quiet_converters
from graftline.formats.exported_network import Network
from graftline.network.keras_io import convert_to_litert, load_model
from graftline.network.runners.litert import LiteRunner

_CALIBRATION = 200
_BATCH = 64


@dataclass(frozen=True)
class Way:
    """One way to quantize.

    Args:
        name: In the table.
        calibration: Training images that ranges are taken from; 0 for none.
        per_channel: Whether weights have a scale per channel, or one per layer.
        bits: Of the values between layers: 8, 16, or 32 where weights alone are quantized.
    """

    name: str
    calibration: int = _CALIBRATION
    per_channel: bool = True
    bits: int = 8


WAYS = (
    Way("as exported"),
    Way("one scale per layer", per_channel=False),
    Way("weights alone", calibration=0, bits=32),
    Way("values in 16 bits", bits=16),
    Way("calibrated on 20 images", calibration=20),
    Way("calibrated on 600 images", calibration=600),
)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--split", default="validation", choices=("validation", "train"))
    options = parser.parse_args()
    import_keras()
    workspace = Workspace(Path.cwd())
    trained = Trained.read_in(workspace)
    classifier = load_model(workspace.trained / "model.keras")
    images = PackedImages.open(workspace.preprocessed)
    rows = images.indices(options.split)
    original = _predicted(workspace.trained / LITERT_FILE, images, rows)
    print("| quantized | size | accuracy | same label | largest drop of a class |")
    print("| --- | --: | --: | --: | --: |")
    right = (original == images.labels[rows]).mean()
    size_bytes = (workspace.trained / LITERT_FILE).stat().st_size
    print(f"| not at all | {size_bytes / 1e6:.2f} MB | {right:.2%} |  |  |")
    with TemporaryDirectory() as folder:
        for way in WAYS:
            path = Path(folder) / LITERT_FILE
            network = Network(classifier, trained, lambda way=way: _calibration(images, way))
            path.write_bytes(_converted(network, way))
            found = Agreement(
                images.labels[rows], original, _predicted(path, images, rows), trained.classes
            )
            drop, name = found.largest_drop
            print(
                f"| {way.name} | {path.stat().st_size / 1e6:.2f} MB | {found.accuracy:.2%} | "
                f"{found.agreement:.2%} | {drop:.2%} ({name or 'none'}) |",
                flush=True,
            )
    print(f"\nOn the {len(rows):,} images of the {options.split} split.")


def _converted(network: Network, way: Way) -> bytes:
    with quiet_converters():
        return convert_to_litert(network.answering(), configure=configure(network.calibration, way))


def configure(images: Callable[[], Iterable[NDArray[np.uint8]]], way: Way) -> Callable[[Any], None]:
    """Tells TensorFlow's converter to quantize in this way.

    Args:
        images: Gives those that the ranges of values come from, each (1, height, width, channels).
        way: See :class:`Way`.
    """
    import tensorflow as tf

    operations = {
        8: [tf.lite.OpsSet.TFLITE_BUILTINS_INT8],
        16: [
            tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8,
            tf.lite.OpsSet.TFLITE_BUILTINS,
        ],
        32: [tf.lite.OpsSet.TFLITE_BUILTINS],
    }

    def calibration() -> Iterator[list[Any]]:
        for image in images():
            yield [image]

    def configured(converter: Any) -> None:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.target_spec.supported_ops = operations[way.bits]
        if way.calibration:
            converter.representative_dataset = calibration
        converter._experimental_disable_per_channel = not way.per_channel

    return configured


def _calibration(images: PackedImages, way: Way) -> Iterator[NDArray[np.uint8]]:
    train = images.indices("train")
    count = min(way.calibration, len(train))
    for index in train[np.linspace(0, len(train) - 1, count).astype(np.int64)]:
        yield images.image(int(index))[np.newaxis]


def _predicted(path: Path, images: PackedImages, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    predicted = np.empty(len(rows), np.int64)
    with LiteRunner(path) as runner:
        for positions, batch in images.batches(rows, _BATCH):
            predicted[positions] = runner.run(batch).argmax(axis=1)
    return predicted


if __name__ == "__main__":
    main()
