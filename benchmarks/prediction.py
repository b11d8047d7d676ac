"""Whether memory stays flat as the files to predict grow in number: ``flows.predict``'s work.

Each count is predicted by a process of its own, from PNG files of noise in one folder, by a small
random network: what is measured is what grows, and a larger network would add the same to each.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.memory import own_peak_bytes
from graftline.core.records import Trained
from graftline.core.workspace import Workspace

_CLASSES = tuple(str(number) for number in range(10))
_SIZE_PX, _IMAGE_PX, _ALPHA, _CUT = 32, 28, 0.35, "block_6_expand_relu"


def main() -> None:
    """Measures, or predicts one folder for a measurement."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.prediction", description=__doc__)
    parser.add_argument("--counts", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--one", type=Path, nargs=2, metavar=("MODEL", "FOLDER"))
    options = parser.parse_args()
    if options.one:
        _predict(*options.one)
        return
    with tempfile.TemporaryDirectory(prefix="graftline-bench-") as folder:
        model = Path(folder) / "model"
        _write_model(model)
        for count in options.counts:
            images = Path(folder) / "images"
            _write_images(images, count)
            command = [sys.executable, "-m", "benchmarks.prediction", "--one", model, images]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            print(done.stdout.strip(), flush=True)


def _predict(model: Path, images: Path) -> None:
    from graftline.inference.batch.writer import held, predict_files, sample
    from graftline.inference.model_choice import choose_model

    workspace = Workspace(model.parent)
    chosen = choose_model(workspace, str(model))
    out = model.parent / "predictions.parquet"
    began_s = time.perf_counter()
    with held(workspace, out):
        batch = predict_files(chosen, [str(images)], out)
        kept = sample(out, _CLASSES)
    found = {
        "images": batch.images,
        "peak_mb": round(own_peak_bytes() / 1e6, 1),
        "images_per_s": round(batch.images_per_s),
        "seconds": round(time.perf_counter() - began_s, 1),
        "sampled": 0 if kept is None else len(kept),
        "file_mb": round(out.stat().st_size / 1e6, 1),
    }
    print(json.dumps(found))


def _write_images(folder: Path, count: int) -> None:
    rng = np.random.default_rng(0)
    folder.mkdir(exist_ok=True)
    for number in range(count):
        pixels = rng.integers(0, 256, (_IMAGE_PX, _IMAGE_PX), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:07d}.png", compress_level=1)


def _write_model(folder: Path) -> None:
    from graftline.core.params import HeadParams
    from graftline.network.classifier import build_classifier
    from graftline.network.cutting import build_base, cut_after
    from graftline.network.model_files import export_model

    backbone = cut_after(build_base(_SIZE_PX, _ALPHA, seed=0), _CUT)
    folder.mkdir()
    export_model(build_classifier(backbone, HeadParams(), len(_CLASSES), 0), _SIZE_PX, folder)
    Trained(
        classes=_CLASSES,
        size_px=_SIZE_PX,
        best_epoch=1,
        epochs_run=1,
        validation_accuracy=0.0,
        validation_loss=0.0,
        weight_digest="random",
        frozen_digest_before="",
        frozen_digest_after="",
        trainable_params=0,
        frozen_params=0,
    ).write(folder / Trained.file_name())


if __name__ == "__main__":
    main()
