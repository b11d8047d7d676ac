"""The record of the step ``evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Self

from graftline.core.records.record import Record, SealedRecord


class ClassMetrics(Record):
    """Test metrics of one class."""

    precision: float
    recall: float
    f1: float
    support: int


class ClassReport(Record):
    """``reports/evaluation/classes.json``: test metrics by class name."""

    classes: dict[str, ClassMetrics]


class Metrics(SealedRecord):
    """``reports/metrics.json``: the exported model on the whole test split."""

    lies_at: ClassVar[str] = "reports/metrics.json"

    test_accuracy: float
    test_accuracy_low: float
    """Lower end of the 95 % interval."""
    test_accuracy_high: float
    test_loss: float
    test_macro_f1: float
    expected_calibration_error: float
    majority_baseline: float
    """Accuracy of always naming the most frequent class of the training split."""
    test_images: int
    classes: dict[str, ClassMetrics] = {}
    """By class name. They lie in ``evaluation/classes.json``, so that ``metrics.json`` stays a
    short row for ``dvc metrics show``; :meth:`read` brings the two together."""

    def _json(self) -> str:
        return self.model_dump_json(indent=2, exclude={"classes"})

    @property
    def balanced_accuracy(self) -> float | None:
        """The mean recall of the classes that have test images; null where they are not known."""
        recalls = [one.recall for one in self.classes.values() if one.support]
        return sum(recalls) / len(recalls) if recalls else None

    @classmethod
    def read(cls, path: Path) -> Self:
        """Reads ``metrics.json`` and, where it is there, ``evaluation/classes.json`` beside it."""
        metrics = super().read(path)
        of_classes = path.parent / "evaluation" / "classes.json"
        if metrics.classes or not of_classes.is_file():
            return metrics
        return metrics.model_copy(update={"classes": ClassReport.read(of_classes).classes})
