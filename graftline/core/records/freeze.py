"""The record of the step ``freeze``."""

from __future__ import annotations

from typing import ClassVar, Literal

from graftline.core.records.record import SealedRecord

ComputedIn = Literal["float32", "tensorfloat32", "bfloat16", "float16"]
"""What the frozen part computes in; its outputs are float32 in any case."""


class FreezePlan(SealedRecord):
    """``models/freeze_plan.json``: which layers train."""

    lies_at: ClassVar[str] = "models/freeze_plan.json"

    strategy: str
    """As a parameter would name it; that which was chosen, if measurement chose it."""
    cut: str
    boundary: str | None
    """The last layer of the frozen prefix: ``pooled`` when the whole backbone is frozen, else a
    layer's name; null when the very first layers train, so that nothing can be cached."""
    trainable: tuple[str, ...]
    """The backbone's layers that train. BatchNormalization is never among them."""
    batch_norm: Literal["keep", "adapt"]
    """Whether BatchNormalization statistics are those of the base weights, or of these images."""
    measured: bool
    """Whether measurement chose it (``auto``), rather than the parameters."""
    reason: str
    precision: ComputedIn = "float32"
    """What the frozen part computes in, from here to the finished model."""
    precision_reason: str | None = None
    """Why; null where ``compute.precision`` is float32."""
