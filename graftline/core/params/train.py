"""The section ``train``: how the head is trained."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from graftline.core.params.fields import Section


class TrainParams(Section):
    """The training loop."""

    epochs: int = Field(default=10, ge=1, le=10_000, description="Passes over the training split.")
    batch_size: int = Field(default=32, ge=1, le=65_536, description="Images per step.")
    learning_rate: float = Field(default=0.001, gt=0, le=10, description="Adam's learning rate.")
    schedule: Literal["constant", "cosine"] = Field(
        default="constant", description="cosine decays the rate to zero over all epochs."
    )
    early_stopping_patience: int | None = Field(
        default=None,
        ge=1,
        description="Stop after this many epochs without a better validation loss; null: never. "
        "Which weights are kept is said in docs/finetuning.md.",
    )
    class_weights: Literal["none", "balanced"] = Field(
        default="none", description="balanced weighs each class by the inverse of its frequency."
    )
    label_smoothing: float = Field(
        default=0.0, ge=0, lt=1, description="Label smoothing while the head alone trains."
    )
    mixup: float = Field(
        default=0.0, ge=0, le=10, description="Alpha of MixUp's Beta distribution; 0 mixes nothing."
    )
    ema: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="Decay per step of an exponential moving average of the weights, which is then "
        "what is validated and kept; null: none.",
    )
    mixed_precision: Literal["none", "auto", "bfloat16"] = Field(
        default="none",
        description="Computing the unfrozen layers in 16 bits. auto: where this machine has "
        "instructions for it.",
    )
