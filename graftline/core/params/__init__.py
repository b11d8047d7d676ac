"""The parameters: typed, strict and frozen; the only reader of ``params.yaml``.

Sections are named by the step that they belong to, so that DVC depends on them by key.
"""

from graftline.core.params.augment import AugmentParams
from graftline.core.params.backbone import BackboneParams
from graftline.core.params.compute import ComputeParams
from graftline.core.params.data import MAX_IMAGE_PX, NO_FILES, TABLE_ENDINGS, DataParams
from graftline.core.params.drift import DriftParams
from graftline.core.params.export import ExportParams
from graftline.core.params.extract import ExtractParams
from graftline.core.params.freeze import (
    STRATEGY_FORMS,
    FirstBlocks,
    FreezeParams,
    FromLayer,
    LastBlocks,
    Seconds,
)
from graftline.core.params.head import HeadParams
from graftline.core.params.notify import NotifyParams
from graftline.core.params.overrides import with_overrides
from graftline.core.params.promote import PromoteParams
from graftline.core.params.reading import params_from_record, read_params
from graftline.core.params.sections import Params, flattened, json_schema
from graftline.core.params.train import TrainParams
from graftline.core.params.tune import TuneParams
from graftline.core.params.yaml_text import read_record, read_text

__all__ = [
    "AugmentParams",
    "BackboneParams",
    "ComputeParams",
    "DataParams",
    "DriftParams",
    "ExportParams",
    "ExtractParams",
    "FirstBlocks",
    "FreezeParams",
    "FromLayer",
    "HeadParams",
    "LastBlocks",
    "MAX_IMAGE_PX",
    "NO_FILES",
    "NotifyParams",
    "Params",
    "PromoteParams",
    "STRATEGY_FORMS",
    "Seconds",
    "TABLE_ENDINGS",
    "TrainParams",
    "TuneParams",
    "flattened",
    "json_schema",
    "params_from_record",
    "read_params",
    "read_record",
    "read_text",
    "with_overrides",
]
