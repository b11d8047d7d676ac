"""Where everything lies: the paths of one checkout, by the name of the step that writes them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

PARAMS_FILE = "params.yaml"
LITERT_FILE = "model.tflite"
"""A trained model for inference, beside its record: a folder with the two is a model."""


@dataclass(frozen=True)
class Workspace:
    """The paths below one checkout's root; nothing is created by asking for one.

    Args:
        root: The checkout's root, where ``params.yaml`` and ``dvc.yaml`` lie.
    """

    root: Path

    @classmethod
    def here(cls) -> Workspace:
        """The workspace in the current directory."""
        return cls(Path.cwd())

    @property
    def params_file(self) -> Path:
        """``params.yaml``."""
        return self.root / PARAMS_FILE

    @property
    def loaded(self) -> Path:
        """Written by ``load``: packed images, ``manifest.parquet``, ``dataset.json``."""
        return self.root / "data" / "loaded"

    @property
    def preprocessed(self) -> Path:
        """Written by ``preprocess``: packed images no larger than the model's input."""
        return self.root / "data" / "preprocessed"

    @property
    def assembled(self) -> Path:
        """Written by ``assemble``: base weights, backbone as LiteRT, ``assembled.json``."""
        return self.root / "models" / "assembled"

    @property
    def freeze_plan(self) -> Path:
        """Written by ``freeze``: which layers train."""
        return self.root / "models" / "freeze_plan.json"

    @property
    def freezing_report(self) -> Path:
        """Written by ``freeze``: the plan as a table for people."""
        return self.root / "reports" / "freezing"

    @property
    def features(self) -> Path:
        """Written by ``extract``: the frozen part's outputs, memory-mapped."""
        return self.root / "data" / "features"

    @property
    def trained(self) -> Path:
        """Written by ``train``: the exported model, ``trained.json``."""
        return self.root / "models" / "trained"

    @property
    def history(self) -> Path:
        """Written by ``train``: one row per epoch."""
        return self.root / "reports" / "history.csv"

    @property
    def metrics(self) -> Path:
        """Written by ``evaluate``: the test metrics."""
        return self.root / "reports" / "metrics.json"

    @property
    def evaluation(self) -> Path:
        """Written by ``evaluate``: ``predictions.parquet`` and the plots."""
        return self.root / "reports" / "evaluation"

    @property
    def promotion(self) -> Path:
        """Written by ``promote``: the receipt of the last decision, for programs."""
        return self.root / "reports" / "promotion.json"

    @property
    def rollback(self) -> Path:
        """Written by ``graftline rollback``: the receipt of the last one."""
        return self.root / "reports" / "rollback.json"

    @property
    def exports(self) -> Path:
        """Written by ``export``: the model in other formats, ``exports.json``."""
        return self.root / "models" / "exports"

    @property
    def exports_report(self) -> Path:
        """Written by ``export``: the table of what each format costs."""
        return self.root / "reports" / "exports"

    @property
    def outputs(self) -> tuple[Path, ...]:
        """All that the steps write and DVC keeps."""
        return (
            self.loaded,
            self.preprocessed,
            self.assembled,
            self.freeze_plan,
            self.freezing_report,
            self.features,
            self.trained,
            self.history,
            self.metrics,
            self.evaluation,
            self.exports,
            self.exports_report,
        )

    @property
    def checkpoint(self) -> Path:
        """Kept by ``train`` while it is at work: where it stands."""
        return self.var / "checkpoints" / "train" / "standing.npz"

    @property
    def var(self) -> Path:
        """State that is neither versioned nor an output: databases, locks, checkpoints, logs."""
        return self.root / "var"
