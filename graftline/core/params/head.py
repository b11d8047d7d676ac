"""The section ``head``: the new classifier."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from graftline.core.params.fields import Section


class HeadParams(Section):
    """The new classifier: pooling, standardization, dense layers, dropout, softmax."""

    pooling: Literal["average", "max"] = Field(default="average", description="Global pooling.")
    standardize: bool = Field(
        default=True,
        description="Whether features are brought to mean 0 and variance 1 of the training split "
        "before the dense layers.",
    )
    units: tuple[Annotated[int, Field(ge=1, le=65536)], ...] = Field(
        default=(256,), description="Units of each dense layer before the softmax; may be empty."
    )
    dropout: float = Field(default=0.3, ge=0, lt=1, description="Dropout rate before the softmax.")
