"""All of ``params.yaml``: its sections, what must hold between them, and the schema."""

from __future__ import annotations

import json
from typing import Any

from pydantic import Field, model_validator

from graftline.core.params.augment import AugmentParams
from graftline.core.params.backbone import BackboneParams
from graftline.core.params.compute import ComputeParams
from graftline.core.params.data import DataParams
from graftline.core.params.drift import DriftParams
from graftline.core.params.evaluate import EvaluateParams
from graftline.core.params.export import ExportParams
from graftline.core.params.extract import ExtractParams
from graftline.core.params.fields import Section
from graftline.core.params.freeze import FreezeParams
from graftline.core.params.head import HeadParams
from graftline.core.params.notify import NotifyParams
from graftline.core.params.preprocess import PreprocessParams
from graftline.core.params.promote import PromoteParams
from graftline.core.params.register import RegisterParams
from graftline.core.params.train import TrainParams
from graftline.core.params.tune import TuneParams


class Params(Section):
    """All of ``params.yaml``."""

    seed: int = Field(default=0, ge=0, lt=2**31, description="Seed of every random choice.")
    data: DataParams
    preprocess: PreprocessParams = PreprocessParams()
    backbone: BackboneParams
    head: HeadParams = HeadParams()
    freeze: FreezeParams = FreezeParams()
    augment: AugmentParams = AugmentParams()
    extract: ExtractParams = ExtractParams()
    train: TrainParams = TrainParams()
    tune: TuneParams = TuneParams()
    evaluate: EvaluateParams = EvaluateParams()
    export: ExportParams = ExportParams()
    compute: ComputeParams = ComputeParams()
    register_: RegisterParams = Field(default=RegisterParams(), alias="register")
    promote: PromoteParams = PromoteParams()
    notify: NotifyParams = NotifyParams()
    drift: DriftParams = DriftParams()

    @model_validator(mode="after")
    def _backbone_takes_this_size(self) -> Params:
        size_px, family = self.preprocess.size_px, self.backbone.family
        if size_px < family.smallest_px:
            raise ValueError(
                f"preprocess.size_px is {size_px}, but {family.name} takes {family.smallest_px} or "
                "more"
            )
        sizes_px = family.imagenet_sizes_px
        # For another size Keras would silently serve the weights made for 224 px.
        if self.backbone.weights == "imagenet" and sizes_px and size_px not in sizes_px:
            raise ValueError(
                f"preprocess.size_px is {size_px}, but Keras has ImageNet weights of {family.name} "
                f"for {', '.join(map(str, sizes_px))} only"
            )
        return self

    def flat(self) -> dict[str, str | int | float | bool | None]:
        """Every parameter by its dotted key, as scalars or JSON text."""
        return flattened(self.model_dump(mode="json", by_alias=True))


def json_schema() -> dict[str, Any]:
    """The JSON schema of ``params.yaml``, for editors."""
    schema = Params.model_json_schema(by_alias=True)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def section_names() -> list[str]:
    """The keys at the top of ``params.yaml``, in its order."""
    return [field.alias or name for name, field in Params.model_fields.items()]


def flattened(record: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested keys and values by dotted key; lists become JSON text."""
    flat: dict[str, Any] = {}
    for key, value in record.items():
        if isinstance(value, dict):
            flat |= flattened(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = json.dumps(value) if isinstance(value, list) else value
    return flat
