"""The section ``preprocess``: the size of the network's input."""

from __future__ import annotations

from pydantic import Field

from graftline.core.params.fields import Section


class PreprocessParams(Section):
    """The size that every image is brought to."""

    size_px: int = Field(
        default=96, ge=32, le=1024, description="Width and height of the network's input, pixels."
    )
