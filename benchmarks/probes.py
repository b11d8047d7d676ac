"""Which probe ranks depths as a trained head does, and at what cost.

``python -m benchmarks.probes -C CHECKOUT``

Reads what ``preprocess`` and ``assemble`` left in a checkout, and answers the images of the first
two of five folds (the chosen probe answers all five in its time). The head is a hidden layer of
256 units, trained by Adam on the 128 first principal components, so that it ends within a minute.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graftline.core.records import Assembled
from graftline.core.workspace import Workspace
from graftline.data.shards import PackedImages
from graftline.selection.depths import choose_depths
from graftline.selection.features import pooled_features
from graftline.selection.folds import dealt_folds, training_sample
from graftline.selection.probe import out_of_fold

_FOLDS = 2
_COMPONENTS = 128


def main() -> None:
    """Prints one row per probe: accuracy by depth, rank correlation with the head, CPU seconds."""
    from scipy.stats import spearmanr
    from threadpoolctl import threadpool_limits

    options = _options()
    workspace = Workspace(options.directory)
    assembled = Assembled.read_in(workspace)
    images = PackedImages.open(workspace.preprocessed)
    depths = choose_depths(assembled)
    sample = training_sample(images, options.images, seed=0)
    labels = images.labels[sample].astype(np.int64)
    with tempfile.TemporaryDirectory() as scratch:
        features = pooled_features(workspace, assembled, depths, sample, Path(scratch))
    folds = dealt_folds(labels)
    print("| probe |", " | ".join(depth.layer for depth in depths), "| rank | CPU s |")
    print("| --- |", " | ".join("--:" for _ in depths), "| --: | --: |")
    head: list[float] = []
    for name, probe in _probes().items():
        begun_s = time.process_time()
        with threadpool_limits(1), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the head stops before it has converged
            row = [_accuracy(probe, one, labels, folds) for one in features]
        head = head or row
        rank = spearmanr(head, row).statistic
        cells = " | ".join(f"{value:.3f}" for value in row)
        print(
            f"| {name} | {cells} | {rank:.2f} | {time.process_time() - begun_s:.1f} |", flush=True
        )


def _probes() -> dict[str, Callable[..., NDArray[np.int64]]]:
    from sklearn.decomposition import PCA
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
    from sklearn.linear_model import LogisticRegression, RidgeClassifier
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    def of(*steps: Any, components: bool = False) -> Callable[..., NDArray[np.int64]]:
        def run(features: Any, labels: Any, folds: Any) -> NDArray[np.int64]:
            wide = components and features.shape[1] > _COMPONENTS
            reduced = [PCA(_COMPONENTS, random_state=0)] if wide else []
            model = make_pipeline(StandardScaler(), *reduced, *steps)
            answers = np.full(len(labels), -1)
            for fold in range(_FOLDS):
                train, held_out = folds != fold, folds == fold
                model.fit(features[train], labels[train])
                answers[held_out] = model.predict(features[held_out])
            return answers

        return run

    head = MLPClassifier(
        (256,), batch_size=64, learning_rate_init=2e-3, max_iter=20, random_state=0
    )
    return {
        "head of 256 units": of(head, components=True),
        "logistic regression, 128 components": of(LogisticRegression(C=0.1), components=True),
        "discriminant analysis, shrunk": of(
            LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")
        ),
        "ridge": of(RidgeClassifier(alpha=30.0)),
        "ridge on random units (chosen)": _ours,
    }


def _ours(features: Any, labels: Any, folds: Any) -> NDArray[np.int64]:
    return out_of_fold(features, labels, folds, seed=0)


def _accuracy(probe: Any, features: Any, labels: Any, folds: Any) -> float:
    asked = folds < _FOLDS
    return float((probe(features, labels, folds) == labels)[asked].mean())


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-C", "--directory", type=Path, default=Path())
    parser.add_argument("--images", type=int, default=4000, help="training images, at most")
    return parser.parse_args()


if __name__ == "__main__":
    main()
