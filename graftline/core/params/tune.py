"""The section ``tune``: how unfrozen layers are trained after the head."""

from __future__ import annotations

from pydantic import Field

from graftline.core.params.fields import Section


class TuneParams(Section):
    """Fine-tuning the unfrozen layers, after the head has been trained on the frozen backbone."""

    epochs: int = Field(default=10, ge=1, le=10_000, description="Passes over the training split.")
    batch_size: int = Field(default=32, ge=1, le=65_536, description="Images per step.")
    learning_rate: float = Field(
        default=0.0005, gt=0, le=10, description="Adam's highest rate, that of the head."
    )
    warmup: float = Field(
        default=0.1,
        ge=0,
        lt=1,
        description="Share of the steps in which the rate rises from 0; a cosine takes it back.",
    )
    layer_decay: float = Field(
        default=0.9,
        gt=0,
        le=1,
        description="Each block's rate is that of the block after it times this.",
    )
    label_smoothing: float = Field(
        default=0.1,
        ge=0,
        lt=1,
        description="Label smoothing while layers of the backbone train. The head knows few images "
        "by heart before they begin, and without it would have nothing to tell them.",
    )
    gradual_unfreezing: bool = Field(
        default=False,
        description="Whether blocks begin to train one after the other, the last one first, over "
        "the first half of the epochs.",
    )
