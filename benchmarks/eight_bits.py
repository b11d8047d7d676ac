"""Why ``compute.precision`` offers no 8 bits: speed and features of the frozen part, quantized.

Run with ``python -m benchmarks.eight_bits``: MobileNetV2 from raw digits to pooled features, in
float32 and quantized to 8 bits by LiteRT, and in bfloat16 and from the quantized file by OpenVINO,
in turn, several rounds. The ranges of the values come from digits that are not measured.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import machine
from benchmarks.backbones import IMAGE_SHAPE, Backbone, build_backbone
from benchmarks.quantization import WAYS, configure
from benchmarks.report import Spread, Table
from graftline.core.startup import import_keras
from graftline.data.sources import bundled
from graftline.data.sources.catalog import SourceSample
from graftline.formats.converters import quiet_converters
from graftline.network.runners.choosing import LITERT, Computing
from graftline.network.runners.litert import LiteRunner

_CALIBRATED_ON, _MEASURED_ON, _AT_ONCE = 100, 1024, 8
_BFLOAT16 = Computing("openvino", "bfloat16")
_Run = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


def main() -> None:
    """Prints one table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.eight_bits", description=__doc__)
    parser.add_argument("--size-px", type=int, default=96)
    parser.add_argument("--cut", default="block_13_expand_relu")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    began_load = machine.load()
    import_keras()
    calibrating, images = np.split(_digits(_CALIBRATED_ON + _MEASURED_ON), [_CALIBRATED_ON])
    with tempfile.TemporaryDirectory(prefix="graftline-bench-") as folder:
        backbone = build_backbone(options.size_px, 1.0, options.cut, Path(folder))
        path = _quantized(backbone, calibrating)
        runs: dict[str, _Run] = {
            str(LITERT): LITERT.open(backbone.litert_file).run,
            "LiteRT in 8 bits": LiteRunner(path).run,
            str(_BFLOAT16): _BFLOAT16.open(backbone.litert_file).run,
            "OpenVINO in 8 bits": _openvino(path),
        }
        features = {way: run(images) for way, run in runs.items()}
        core_ms: dict[str, list[float]] = {way: [] for way in runs}
        for number in range(options.rounds):
            # Shuffled, so that none comes always after the same one.
            for at in np.random.default_rng(number).permutation(len(runs)):
                way = list(runs)[at]
                began_s = time.process_time()
                runs[way](images)
                core_ms[way].append(1000 * (time.process_time() - began_s) / len(images))
    full = features[str(LITERT)]
    rows = [
        (
            way,
            Spread.of(core_ms[way]).text(2),
            f"{np.abs(one - full).mean() / np.abs(full).mean():.1%}",
        )
        for way, one in features.items()
    ]
    heads = ("runner", "core ms per image", "mean difference of the features")
    title = f"Digits at {options.size_px} px, the frozen backbone to `{options.cut}`"
    print(Table(title, heads, rows).markdown())
    print(f"On {machine.sentence(machine.description())}; load before it {began_load}.")


def _digits(count: int) -> NDArray[np.uint8]:
    images = np.stack(
        [
            np.frombuffer(one.payload, np.uint8).reshape(one.height, one.width, one.channels)
            for one in bundled.catalog().samples()
            if isinstance(one, SourceSample)
        ]
    )
    # They come class by class.
    return images[np.random.default_rng(0).permutation(len(images))[:count]]


def _quantized(backbone: Backbone, images: NDArray[np.uint8]) -> Path:
    path = backbone.folder / "quantized.tflite"
    with quiet_converters():
        path.write_bytes(
            backbone.converted(configure(lambda: (one[np.newaxis] for one in images), WAYS[0]))
        )
    return path


def _openvino(path: Path) -> _Run:
    """Eight images at once, as Graftline's own runner has it at 96 px."""
    import openvino

    core = openvino.Core()
    model = core.read_model(str(path))
    model.reshape([_AT_ONCE, *IMAGE_SHAPE])
    compiled: Any = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "bf16"})

    def run(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        starts = range(0, len(images), _AT_ONCE)
        return np.concatenate([compiled(images[at : at + _AT_ONCE])[0].copy() for at in starts])

    return run


if __name__ == "__main__":
    main()
