"""The frozen records that cross from one step to the next, each a small JSON file.

They hold nothing that changes between two runs of the same inputs (no times, no hosts), so that
DVC sees the same output where the same work was done.
"""

from collections.abc import Mapping

from graftline.core.records.assemble import Assembled, LayerRecord
from graftline.core.records.evaluate import ClassMetrics, ClassReport, Metrics
from graftline.core.records.export import ExportedModel, ExportFormat, Exports, OriginalModel
from graftline.core.records.extract import Features
from graftline.core.records.freeze import ComputedIn, FreezePlan
from graftline.core.records.load import SPLITS, Dataset, Split, WhiteLevels
from graftline.core.records.preprocess import Preprocessed
from graftline.core.records.record import Record
from graftline.core.records.train import Trained

__all__ = [
    "Assembled",
    "ClassMetrics",
    "ClassReport",
    "ComputedIn",
    "Dataset",
    "ExportFormat",
    "ExportedModel",
    "Exports",
    "Features",
    "FreezePlan",
    "LayerRecord",
    "Metrics",
    "OF_STAGE",
    "OriginalModel",
    "Preprocessed",
    "Record",
    "SPLITS",
    "Split",
    "Trained",
    "WhiteLevels",
]

OF_STAGE: Mapping[str, type[Record]] = {
    "load": Dataset,
    "preprocess": Preprocessed,
    "assemble": Assembled,
    "freeze": FreezePlan,
    "extract": Features,
    "train": Trained,
    "evaluate": Metrics,
    "export": Exports,
}
"""What each stage writes."""
