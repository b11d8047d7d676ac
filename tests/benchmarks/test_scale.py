"""The made-up sources of the benchmark of scale, and what it says of its results."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import scale
from benchmarks.scale import Size, _png, images_of, remarks, tables


def found(cpu_s: float, peak_mb: int, images: int) -> dict[str, object]:
    return {"seconds": 2 * cpu_s, "cpu_s": cpu_s, "peak_mb": peak_mb, "images": images}


def test_images_differ_and_show_their_class() -> None:
    ((images, labels),) = images_of(Size.of("400x20"))
    assert images.shape == (400, 28, 28)
    assert labels.tolist() == [at % 20 for at in range(400)]
    assert len({image.tobytes() for image in images}) == 400
    means = np.stack([images[labels == label].mean(axis=0) for label in range(20)])
    distances = ((images[:, None].astype(float) - means) ** 2).sum(axis=(2, 3))
    assert (distances.argmin(axis=1) == labels).mean() > 0.99


def test_a_file_of_an_image_holds_its_pixels() -> None:
    ((images, _),) = images_of(Size.of("3x3"))
    with Image.open(io.BytesIO(_png(images[1]))) as picture:
        assert (np.asarray(picture) == images[1]).all()


def test_what_is_above_the_bounds_is_named() -> None:
    results = {
        "sizes": {
            "1000000x10": {"load": found(500, 900, 10**6), "train": found(1300, 2100, 10**6)},
            "10000x10": {"load": found(5, 100, 10**4), "train": found(10, 900, 10**4)},
        }
    }
    assert remarks(results) == [
        "More than 2,000 MB: train of 1000000x10 held 2,100 MB.",
        "CPU seconds per image above 1.2 times those of 10000x10: train of 1000000x10: 1.30.",
    ]
    pace, peaks = tables(results)
    assert pace.columns == ("step", "10,000 of 10 classes", "1,000,000 of 10 classes")
    assert pace.rows[0] == ("load", "1.000 (0.500)", "1.000 (0.500)")
    assert peaks.rows[0] == ("load", "100", "900")


def test_a_measurement_that_fails_leaves_no_figure_of_before(
    tmp_path: Path, checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "4x2").mkdir()
    shutil.copy(checkout / "params.yaml", tmp_path / "4x2")
    kept = tmp_path / "results.json"
    before = {"4x2": {"load": found(1, 100, 4), "preprocess": found(1, 100, 4)}}
    kept.write_text(json.dumps(before))
    monkeypatch.setattr(scale, "lock_code", lambda _: None)
    monkeypatch.setattr(scale, "_run", lambda *_: {**found(2, 200, 4), "failed": "no space"})
    command = ["4x2", "--folder", str(tmp_path), "--steps", "load", "preprocess"]
    assert scale.main(command) == 0
    assert json.loads(kept.read_text()) == before
    assert scale.main([*command, "--again"]) == 1
    # The step after it has not begun.
    assert json.loads(kept.read_text()) == {"4x2": {"preprocess": before["4x2"]["preprocess"]}}
