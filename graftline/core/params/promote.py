"""The section ``promote``: what a new champion has to show."""

from __future__ import annotations

from pydantic import Field

from graftline.core.params.fields import Section


class PromoteParams(Section):
    """The checks that a new model must pass to become the champion; see docs/champions.md.

    A check whose parameter is null is not set and cannot be passed: then nothing is promoted.
    """

    min_accuracy: float | None = Field(
        default=0.9,
        ge=0,
        le=1,
        description="The floor: accuracy on the test split that every champion has, the first one "
        "too, both of all images and with each class counting the same. Null: nothing is promoted.",
    )
    margin: float | None = Field(
        default=-0.01,
        gt=-1,
        lt=1,
        description="How far above the champion's accuracy the challenger's must surely be. Below "
        "0: it may be worse by less than this. It holds against the best champion so far, too. "
        "Null: no champion is replaced.",
    )
    same_data_margin: float = Field(
        default=0.0,
        gt=-1,
        lt=1,
        description="How far above the champion's accuracy the challenger's must be, as measured, "
        "where both were trained on the same data. 0: not worse.",
    )
    significance: float | None = Field(
        default=0.05,
        gt=0,
        lt=0.5,
        description="Level of the exact tests (McNemar's, one-sided) and of the interval's lower "
        "end. Null: no champion is replaced.",
    )
    max_recall_drop: float | None = Field(
        default=0.05,
        ge=0,
        le=1,
        description="By how much the recall of a class may fall; what surely falls by more, by an "
        "exact test at the significance for all classes together, is refused. 1 guards none. Null: "
        "no champion is replaced.",
    )
    min_class_images: int = Field(
        default=20,
        ge=1,
        description="Classes with fewer test images are not guarded: too few to be sure of a fall.",
    )
