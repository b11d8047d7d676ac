"""The section ``freeze``: which layers train, or how that is chosen."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from graftline.core.params.fields import Section

STRATEGY_FORMS = (
    "auto; all; none; last_blocks: n; first_blocks: n; from_layer: name (n a whole number from 1 "
    "on)"
)

BUDGET_FORMS = "a share above 0 up to 10; seconds: n (a whole number from 1 on); off"


def _form_from_text(value: Any) -> Any:
    # "last_blocks: 2" as one string is what a command line can say (-S freeze.strategy=...).
    if isinstance(value, str) and ":" in value:
        name, _, argument = (part.strip() for part in value.partition(":"))
        return {name: int(argument) if argument.lstrip("-").isdigit() else argument}
    return value


class LastBlocks(Section):
    """The last n blocks below the cut train."""

    last_blocks: int = Field(ge=1)


class FirstBlocks(Section):
    """The first n blocks train."""

    first_blocks: int = Field(ge=1)


class FromLayer(Section):
    """The named layer and all that follow train."""

    from_layer: str = Field(min_length=1)


class Seconds(Section):
    """A budget in seconds of this machine."""

    seconds: int = Field(ge=1)


class FreezeParams(Section):
    """Where the backbone is cut and which of its layers train; the head always does."""

    strategy: Annotated[
        Literal["auto", "all", "none"] | LastBlocks | FirstBlocks | FromLayer,
        BeforeValidator(_form_from_text),
    ] = Field(
        default="all",
        description="auto: cut and layers are chosen by measurement (backbone.cut is then one of "
        "the depths measured). all: the whole backbone is frozen. none: all of it trains. "
        "last_blocks: n, first_blocks: n, from_layer: name: these train and the rest is frozen.",
    )
    batch_norm: Literal["keep", "adapt"] = Field(
        default="keep",
        description="The backbone's BatchNormalization statistics. keep: those of the base "
        "weights. adapt: estimated anew on the training images, once, before anything trains.",
    )
    budget: Annotated[
        Annotated[float, Field(gt=0, le=10)] | Seconds | Literal["off"],
        BeforeValidator(_form_from_text),
    ] = Field(
        default=4.0,
        description="For strategy auto: what choosing may cost, as a share of training the whole "
        "network once, or in seconds. off: no limit; each candidate is trained to its end.",
    )
    max_images: int = Field(
        default=4000,
        ge=100,
        description="For strategy auto: training images that the depth profile looks at, at most.",
    )
