"""Images per second of the frozen part in float32 and in bfloat16 on cores that have it.

Run with ``python -m benchmarks.few_bits``: MobileNetV2 from raw images to pooled features, by the
runners that ``extract`` takes, in turn, several rounds; ratios are taken round by round. The images
are grey ones of 28x28, as digits are, and colour ones of the network's size, as ``preprocess``
makes them of photographs. Beside the seconds stand those that the cores were at work, which other
programs stretch less.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import machine
from benchmarks.backbones import IMAGE_SHAPE, build_backbone, random_images
from benchmarks.report import Spread, Table, ratios
from graftline.network.runners.choosing import LITERT, Computing, possible, what_it_takes
from graftline.network.runners.runner import Runner

_WAYS = (LITERT, Computing("openvino", "bfloat16"))
_REST_S = 0.2
_IMAGES_AT_96 = 2048


def main() -> None:
    """Measures and prints one table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.few_bits", description=__doc__)
    parser.add_argument("--sizes-px", type=int, nargs="+", default=[96, 160, 224])
    parser.add_argument("--cut", default="block_13_expand_relu")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    if "bfloat16" not in possible(on_gpu=False):
        raise SystemExit(f"nothing to measure: bfloat16 {what_it_takes(on_gpu=False)}")
    rows = []
    began_load = machine.load()
    cases = [(size, shape) for size in options.sizes_px for shape in (IMAGE_SHAPE, (size, size, 3))]
    for size_px, shape in cases:
        rates, core_ms, difference = _measured(size_px, shape, options.cut, options.rounds)
        for way in _WAYS:
            given = (Spread.of(rates[way]).text(0), Spread.of(core_ms[way]).text(2))
            compared = (
                Spread.of(ratios(rates[way], rates[LITERT])).text(2),
                Spread.of(ratios(core_ms[LITERT], core_ms[way])).text(2),
                f"{difference:.1%}",
            )
            shown = ("", "", "") if way == LITERT else compared
            rows.append((f"{size_px} px, of {_told(shape)}, {way}", *given, *shown))
    heads = (
        "input, images, runner",
        "images per second",
        "core ms per image",
        "times as many images/s",
        "times less core time",
        "mean difference",
    )
    print(Table(f"The frozen backbone to `{options.cut}`", heads, rows).markdown())
    told = machine.sentence(machine.description())
    print(f"On {told}; load before it {began_load}.")


def _measured(
    size_px: int, shape: tuple[int, int, int], cut: str, rounds: int
) -> tuple[dict[Computing, list[float]], dict[Computing, list[float]], float]:
    images = random_images(max(128, int(_IMAGES_AT_96 * (96 / size_px) ** 2)), shape)
    with tempfile.TemporaryDirectory(prefix="graftline-bench-") as folder:
        path = build_backbone(size_px, 1.0, cut, Path(folder)).litert_file
        runners = {way: way.open(path) for way in _WAYS}
        full, half = (runners[way].run(images) for way in _WAYS)
        rates: dict[Computing, list[float]] = {way: [] for way in _WAYS}
        core_ms: dict[Computing, list[float]] = {way: [] for way in _WAYS}
        for number in range(rounds):
            # Shuffled, so that none comes always after the same one.
            for at in np.random.default_rng(number).permutation(len(_WAYS)):
                time.sleep(_REST_S)
                rate, core_s = _rate(runners[_WAYS[at]], images)
                rates[_WAYS[at]].append(rate)
                core_ms[_WAYS[at]].append(1000 * core_s / len(images))
        for runner in runners.values():
            runner.close()
    return rates, core_ms, float(np.abs(half - full).mean() / np.abs(full).mean())


def _told(shape: tuple[int, int, int]) -> str:
    height, width, channels = shape
    return f"{height}x{width} {'grey' if channels == 1 else 'colour'}"


def _rate(runner: Runner, images: NDArray[np.uint8]) -> tuple[float, float]:
    began_s, began_core_s = time.perf_counter(), time.process_time()
    for _ in runner.run_all(_batches(images, runner.most_images)):
        pass
    seconds = time.perf_counter() - began_s
    return len(images) / seconds, time.process_time() - began_core_s


def _batches(images: NDArray[Any], size: int) -> Iterator[NDArray[np.uint8]]:
    return (images[at : at + size] for at in range(0, len(images), size))


if __name__ == "__main__":
    main()
