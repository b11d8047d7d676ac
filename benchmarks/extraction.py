"""Images per second through the frozen trunk: Graftline's runner against ``keras.Model.predict``.

Run with ``python -m benchmarks.extraction``. Both run the same network on the same images, in
turn, several rounds; the ratio of each round is taken, and the median of the ratios stands.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

KERAS_BATCH = 32


def main() -> None:
    """Measures and prints one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size-px", type=int, default=96)
    parser.add_argument("--alpha", type=float, default=1.0)
    parser.add_argument("--cut", default="out_relu")
    parser.add_argument("--images", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    images = np.random.default_rng(0).integers(0, 256, (options.images, 28, 28, 1), dtype=np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        model, litert_file = build_trunk(options.size_px, options.alpha, options.cut, Path(folder))
        contenders = _contenders(model, litert_file)
        differences = np.abs(
            contenders["Graftline"](images[:64]) - contenders["Keras"](images[:64])
        )
        rounds = [_round(contenders, images) for _ in range(options.rounds + 1)][1:]
    _show(options, rounds, float(differences.max()))


def build_trunk(size_px: int, alpha: float, cut: str, folder: Path) -> tuple[Any, Path]:
    """The frozen part, pooled, as a Keras model and as a LiteRT file with the same weights."""
    import keras

    from graftline.assemble import frozen_part
    from graftline.families import family_of
    from graftline.graft import build_pooling, build_preparation
    from graftline.keras_files import convert_to_litert
    from graftline.params import BackboneParams
    from graftline.trunk import build_base, cut_after
    from graftline.weights import load_into, resolve_weights
    from graftline.workspace import Workspace

    base = build_base(size_px, alpha, seed=0)
    if alpha == 1.0:
        backbone = BackboneParams(weights="stanford-dogs")
        load_into(base, resolve_weights(Workspace.here(), backbone, size_px))
    trunk = cut_after(base, cut)
    pooling = build_pooling("average")
    start = keras.Input((None, None, None), dtype="uint8")
    maps = trunk(build_preparation(size_px, family_of(trunk).scaling)(start), training=False)
    model = keras.Model(start, pooling(maps))
    path = folder / "frozen.tflite"
    path.write_bytes(convert_to_litert(frozen_part(trunk, size_px, pooling)))
    return model, path


def _contenders(model: Any, litert_file: Path) -> dict[str, Callable[[Any], Any]]:
    from graftline.litert import LiteRunner

    runner = LiteRunner(litert_file)

    def graftline(images: Any) -> Any:
        batches = (images[at : at + 256] for at in range(0, len(images), 256))
        return np.concatenate(list(runner.run_all(batches)))

    def keras_predict(images: Any) -> Any:
        return model.predict(images, batch_size=KERAS_BATCH, verbose=0)

    return {"Graftline": graftline, "Keras": keras_predict}


def _round(contenders: dict[str, Callable[[Any], Any]], images: Any) -> dict[str, float]:
    rates = {}
    for name, run in contenders.items():
        started_s = time.perf_counter()
        run(images)
        rates[name] = len(images) / (time.perf_counter() - started_s)
    return rates


def _show(options: argparse.Namespace, rounds: list[dict[str, float]], difference: float) -> None:
    ratios = [rates["Graftline"] / rates["Keras"] for rates in rounds]
    table = Table(
        title=f"Frozen trunk to {options.cut}, {options.size_px} px, alpha {options.alpha}"
    )
    for column in ("runner", "images per second: median", "lowest", "highest"):
        table.add_column(column, justify="left" if column == "runner" else "right")
    for name in ("Graftline", "Keras"):
        rates = sorted(rates[name] for rates in rounds)
        label = name if name == "Graftline" else f"keras.Model.predict, batch {KERAS_BATCH}"
        table.add_row(
            label,
            f"{statistics.median(rates):.0f}",
            f"{rates[0]:.0f}",
            f"{rates[-1]:.0f}",
        )
    console = Console()
    console.print(table)
    console.print(
        f"Graftline / Keras, round by round: median {statistics.median(ratios):.2f}, "
        f"{min(ratios):.2f} to {max(ratios):.2f}; largest difference of a feature {difference:.1e}"
    )


if __name__ == "__main__":
    main()
