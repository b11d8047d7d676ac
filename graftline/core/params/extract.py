"""The section ``extract``: how the frozen part's outputs are kept."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from graftline.core.params.fields import Section


class ExtractParams(Section):
    """How the frozen part's outputs are kept."""

    dtype: Literal["float16", "float32"] = Field(
        default="float16", description="Of cached feature maps; pooled features are always float32."
    )
    max_cache_gb: float = Field(
        default=8.0,
        gt=0,
        description="Feature maps that would take more disk than this are not cached; training "
        "then reads images. While freeze.strategy auto chooses, the maps of all its candidates "
        "take no more together.",
    )
