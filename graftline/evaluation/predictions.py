"""The answers of a model to labelled images, and how good they are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from graftline.core.records import ClassMetrics, Dataset, Metrics
from graftline.evaluation.calibration import Reliability, accuracy_interval, reliability
from graftline.training.losses import cross_entropies


@dataclass(frozen=True)
class Predictions:
    """What the model says of each test image, beside what it is."""

    labels: NDArray[np.int32]
    """Indices of the true classes, shape (images,)."""
    probabilities: NDArray[np.float32]
    """Shape (images, classes); each row sums to 1."""
    logits: NDArray[np.float32]
    """What went into the softmax, shape (images, classes)."""

    @property
    def predicted(self) -> NDArray[np.int64]:
        """Indices of the most probable classes, shape (images,)."""
        predicted: NDArray[np.int64] = self.probabilities.argmax(axis=1)
        return predicted

    @property
    def confidence(self) -> NDArray[np.float32]:
        """The predicted classes' probabilities, shape (images,)."""
        confidence: NDArray[np.float32] = self.probabilities.max(axis=1)
        return confidence

    @property
    def right(self) -> NDArray[np.bool_]:
        """Whether each prediction is right, shape (images,)."""
        right: NDArray[np.bool_] = self.predicted == self.labels
        return right

    def confusion(self) -> NDArray[np.int64]:
        """Images by true class (rows) and predicted class (columns), shape (classes, classes)."""
        from sklearn.metrics import confusion_matrix

        classes = range(self.probabilities.shape[1])
        counts: NDArray[np.int64] = confusion_matrix(self.labels, self.predicted, labels=classes)
        return counts

    def reliability(self, bins: int) -> Reliability:
        """Confidence against accuracy, in bins of equal width."""
        # A softmax in float32 may exceed 1 by its last bit.
        return reliability(np.minimum(self.confidence, 1), self.right, bins)


def measure(predictions: Predictions, dataset: Dataset, calibration_bins: int) -> Metrics:
    """The test metrics of some predictions.

    A class that is never predicted has precision 0, one without test images recall and F1 0. The
    macro F1 is the mean over the classes that have test images.
    """
    from sklearn.metrics import f1_score, precision_recall_fscore_support

    labels, predicted = predictions.labels, predictions.predicted
    indices = range(len(dataset.classes))
    right = int(predictions.right.sum())
    low, high = accuracy_interval(right, len(labels))
    by_class = zip(
        *precision_recall_fscore_support(labels, predicted, labels=indices, zero_division=0),
        strict=True,
    )
    macro_f1 = f1_score(
        labels, predicted, labels=np.unique(labels), average="macro", zero_division=0
    )
    return Metrics(
        test_accuracy=right / len(labels),
        test_accuracy_low=low,
        test_accuracy_high=high,
        test_loss=float(cross_entropies(predictions.logits, labels).mean()),
        test_macro_f1=float(macro_f1),
        expected_calibration_error=predictions.reliability(calibration_bins).expected_error,
        majority_baseline=float(np.mean(labels == dataset.classes.index(dataset.most_frequent))),
        test_images=len(labels),
        classes={
            name: ClassMetrics(
                precision=float(precision), recall=float(recall), f1=float(f1), support=int(support)
            )
            for name, (precision, recall, f1, support) in zip(
                dataset.classes, by_class, strict=True
            )
        },
    )
