"""How the drift measure answers to images that are as before, and to changed ones.

The model in ``models/trained`` is asked about the test images, as they are and changed in ways that
cameras and people change them, and about small random batches of both. Nothing is chosen by it but
the defaults of ``drift`` in ``params.yaml``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from graftline.core.params import DriftParams, read_params
from graftline.core.workspace import Workspace
from graftline.data.shards import PackedImages
from graftline.evaluation.feature_reference import FeatureReference, FeatureSample, read_reference
from graftline.evaluation.predictor import Predictor
from graftline.inference.drift.decision import Drift, judge

Pixels = NDArray[np.uint8]
_NOISE_SD = 25
_BATCHES, _BATCH_SIZES = 6, (30, 50, 100, 200)


def _noisy(images: Pixels) -> Pixels:
    noise = np.random.default_rng(0).normal(0, _NOISE_SD, images.shape)
    return np.clip(images + noise, 0, 255).astype(np.uint8)


CHANGES: dict[str, Callable[[Pixels], Pixels]] = {
    "as they are": lambda images: images,
    "mirrored": lambda images: images[:, :, ::-1],
    "three pixels to the right": lambda images: np.roll(images, 3, axis=2),
    "30 % darker": lambda images: (images * 0.7).astype(np.uint8),
    "inverted": lambda images: 255 - images,
    "with noise (sd 25)": _noisy,
}


def main() -> int:
    """Prints a line for each change, and one for each size of a batch."""
    workspace = Workspace.here()
    params = read_params(workspace.params_file).drift
    reference = read_reference(workspace.trained)
    if reference is None:
        print("models/trained has no reference; run: dvc repro", file=sys.stderr)
        return 2
    images = PackedImages.open(workspace.preprocessed)
    test = images.batch(images.indices("test"))
    samples = {}
    with Predictor(workspace.trained) as predictor:
        for name, change in CHANGES.items():
            probabilities, features = predictor.probabilities_and_features(change(test))
            samples[name] = FeatureSample.of(features, probabilities)
    for name, sample in samples.items():
        drift = _judged(reference, sample, params)
        print(
            f"{name}: {drift.share:.1%} drifted, median distance {drift.median_distance:.3f} "
            f"(validation {drift.held_out_median_distance:.3f}), labels differ "
            f"{drift.labels_distance:.1%}, probability {drift.confidence:.3f}, "
            f"alarm {drift.alarm}",
            flush=True,
        )
    rng = np.random.default_rng(0)
    for size in _BATCH_SIZES:
        for name in ("as they are", "inverted"):
            shares = [
                _judged(reference, _drawn(samples[name], size, rng), params).share
                for _ in range(_BATCHES)
            ]
            shown = ", ".join(f"{share:.1%}" for share in shares)
            print(f"batches of {size}, {name}: {shown}", flush=True)
    return 0


def _drawn(sample: FeatureSample, size: int, rng: np.random.Generator) -> FeatureSample:
    places = rng.choice(len(sample), size, replace=False)
    return FeatureSample(sample.features[places], sample.labels[places], sample.confidence[places])


def _judged(reference: FeatureReference, sample: FeatureSample, params: DriftParams) -> Drift:
    classes = sample.probabilities.shape[1]
    counts = np.bincount(sample.labels, minlength=classes).tolist()
    labels = dict(zip(map(str, range(classes)), counts, strict=True))
    return judge(reference, sample, labels, params).drift


if __name__ == "__main__":
    sys.exit(main())
