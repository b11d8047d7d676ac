"""The answers of a model to labelled images, and how good they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graftline.core.records import ClassMetrics, Dataset, Metrics
from graftline.evaluation.calibration import Reliability, accuracy_interval, reliability
from graftline.training.losses import cross_entropies

MOST_WHOLE = 256
"""Of models with more classes only the likeliest few are kept of each answer: those of a million
images and ten thousand classes would take 40 GB."""
LIKELIEST = 5


@dataclass(frozen=True)
class Predictions:
    """What the model says of each test image, beside what it is.

    Args:
        labels: Indices of the true classes, (images,).
        predicted: Indices of the most probable classes, (images,).
        confidence: The predicted classes' probabilities, (images,).
        losses: The cross-entropy of each answer, (images,).
        classes: How many there are.
        kept: The classes whose probabilities are kept, the likeliest first, (images,
            ``LIKELIEST``); None if those of all classes are.
        probabilities: Of these classes, (images, ``LIKELIEST``), or of all, (images, classes).
    """

    labels: NDArray[np.int32]
    predicted: NDArray[np.int64]
    confidence: NDArray[np.float32]
    losses: NDArray[np.float64]
    classes: int
    kept: NDArray[np.int32] | None
    probabilities: NDArray[np.float32]

    @classmethod
    def of_none(cls, labels: NDArray[np.int32], classes: int) -> Predictions:
        """With room for the answers to images of these labels, for :meth:`take_in`."""
        count = len(labels)
        few = classes <= MOST_WHOLE
        return cls(
            labels=labels,
            predicted=np.zeros(count, np.int64),
            confidence=np.zeros(count, np.float32),
            losses=np.zeros(count),
            classes=classes,
            kept=None if few else np.zeros((count, LIKELIEST), np.int32),
            probabilities=np.zeros((count, classes if few else LIKELIEST), np.float32),
        )

    @classmethod
    def of(
        cls,
        labels: NDArray[np.int32],
        probabilities: NDArray[np.float32],
        logits: NDArray[np.float32],
    ) -> Predictions:
        """Of all answers at once, each (images, classes)."""
        found = cls.of_none(labels, probabilities.shape[1])
        found.take_in(np.arange(len(labels)), cls.told(labels, probabilities, logits))
        return found

    @staticmethod
    def told(
        labels: NDArray[np.int32], probabilities: NDArray[np.float32], logits: NDArray[np.float32]
    ) -> dict[str, NDArray[Any]]:
        """What is kept of the answers to some images, for :meth:`take_in`.

        Args:
            labels: Indices of the true classes, (n,).
            probabilities: Each row sums to 1, (n, classes).
            logits: What went into the softmax, (n, classes).
        """
        answers: dict[str, NDArray[Any]] = {
            "predicted": probabilities.argmax(axis=1),
            "confidence": probabilities.max(axis=1),
            "losses": cross_entropies(logits, labels),
            "probabilities": probabilities,
        }
        if probabilities.shape[1] > MOST_WHOLE:
            answers["kept"], answers["probabilities"] = likeliest(probabilities)
        return answers

    def take_in(self, places: NDArray[np.int64], answers: Mapping[str, NDArray[Any]]) -> None:
        """Puts what :meth:`told` gave for some images in their places, (n,)."""
        self.predicted[places] = answers["predicted"]
        self.confidence[places] = answers["confidence"]
        self.losses[places] = answers["losses"]
        self.probabilities[places] = answers["probabilities"]
        if self.kept is not None:
            self.kept[places] = answers["kept"]

    @property
    def right(self) -> NDArray[np.bool_]:
        """Whether each prediction is right, shape (images,)."""
        right: NDArray[np.bool_] = self.predicted == self.labels
        return right

    def confusion(self) -> NDArray[np.int64]:
        """Images by true class (rows) and predicted class (columns), shape (classes, classes).

        For few classes: of ten thousand it takes 800 MB.
        """
        pairs = self.labels.astype(np.int64) * self.classes + self.predicted
        counts = np.bincount(pairs, minlength=self.classes**2)
        return counts.reshape(self.classes, self.classes).astype(np.int64)

    def most_confused(self, most: int) -> list[tuple[int, int, int]]:
        """The pairs of true and predicted class with the most mistakes, and how many these are."""
        wrong = ~self.right
        pairs = self.labels[wrong].astype(np.int64) * self.classes + self.predicted[wrong]
        found, counts = np.unique(pairs, return_counts=True)
        first = np.argsort(-counts, kind="stable")[:most]
        return [
            (*divmod(int(pair), self.classes), int(count))
            for pair, count in zip(found[first], counts[first], strict=True)
        ]

    def reliability(self, bins: int) -> Reliability:
        """Confidence against accuracy, in bins of equal width."""
        # A softmax in float32 may exceed 1 by its last bit.
        return reliability(np.minimum(self.confidence, 1), self.right, bins)


def likeliest(probabilities: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The ``LIKELIEST`` classes of each answer, the likeliest first, and their probabilities.

    Args:
        probabilities: Of more classes than that, (n, classes).

    Returns:
        Both (n, ``LIKELIEST``).
    """
    # Those of the same probability in the classes' order, as argmax takes them.
    few = np.sort(np.argpartition(-probabilities, LIKELIEST, axis=1)[:, :LIKELIEST], axis=1)
    among = np.take_along_axis(probabilities, few, axis=1)
    order = np.argsort(-among, axis=1, kind="stable")
    return np.take_along_axis(few, order, axis=1), np.take_along_axis(among, order, axis=1)


def further_columns(classes: Sequence[str]) -> list[str]:
    """The columns beside ``label`` and ``probability`` in tables of new images' answers.

    ``p_<class>`` for each class; of more than ``MOST_WHOLE`` classes ``label_2``,
    ``probability_2`` and so on for the next likeliest.
    """
    if len(classes) <= MOST_WHOLE:
        return [f"p_{name}" for name in classes]
    places = range(2, LIKELIEST + 1)
    return [f"{kind}_{place}" for place in places for kind in ("label", "probability")]


def further_values(
    probabilities: NDArray[np.float32], classes: Sequence[str]
) -> list[NDArray[Any]]:
    """What stands in these columns: probabilities (n,), and names (n,).

    Args:
        probabilities: (n, classes).
        classes: Their names.
    """
    if len(classes) <= MOST_WHOLE:
        return list(probabilities.T)
    names = np.array(classes, object)
    few, their = likeliest(probabilities)
    return [values for at in range(1, LIKELIEST) for values in (names[few[:, at]], their[:, at])]


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
        test_loss=float(predictions.losses.mean()),
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
