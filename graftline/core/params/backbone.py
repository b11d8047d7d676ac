"""The section ``backbone``: which one, its weights, and where it is cut."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, Field, model_validator

from graftline.core.backbones import (
    DEFAULT,
    DEFAULT_CUT,
    FAMILIES,
    STANFORD_DOGS,
    Family,
    usual_cut,
)
from graftline.core.params.fields import HomePath, Section, Sha256, shown
from graftline.core.redaction import names_a_user

ALPHAS = tuple(sorted({alpha for family in FAMILIES.values() for alpha in family.alphas}))
"""The widths of all backbones; each takes some of them."""

NAMED_WEIGHTS = ("stanford-dogs", "imagenet", "random")


def _known_backbone(name: str) -> str:
    if name not in FAMILIES:
        raise ValueError(f"got {shown(name)}, allowed are {', '.join(FAMILIES)}")
    return name


class BackboneParams(Section):
    """Which pretrained network is grafted onto, and where it is cut."""

    name: Annotated[str, AfterValidator(_known_backbone)] = Field(
        default=DEFAULT,
        description="The architecture, by its name in Keras Applications; docs/backbones.md tells "
        "of each.",
        json_schema_extra={"enum": list(FAMILIES)},
    )
    alpha: float = Field(
        default=1.0,
        description="Width multiplier; each architecture has some of these, most have only 1.0.",
        json_schema_extra={"enum": list(ALPHAS)},
    )
    weights: HomePath = Field(
        min_length=1,
        description="stanford-dogs, imagenet, random, a path to a weights file, or an https "
        "address of one.",
    )
    weights_sha256: Sha256 | None = Field(
        default=None, description="SHA-256 of the weights file; needed for a path or an address."
    )
    cut: str | None = Field(
        default=None,
        min_length=1,
        description="The layer after which the backbone is cut; null: its usual last layer. Left "
        f"out, it is {DEFAULT_CUT} for {DEFAULT}, and null for all others.",
        json_schema_extra={"default": DEFAULT_CUT},
    )

    @property
    def family(self) -> Family:
        """What is known of the architecture."""
        return FAMILIES[self.name]

    @property
    def cut_layer(self) -> str:
        """The layer after which the backbone is cut."""
        return self.cut or self.family.last_layer

    @model_validator(mode="before")
    @classmethod
    def _usual_cut(cls, given: Any) -> Any:
        # What a short parameter file leaves out is what the committed one says.
        if isinstance(given, dict):
            return {"cut": usual_cut(given.get("name", DEFAULT)), **given}
        return given

    @model_validator(mode="after")
    def _has_this_width(self) -> BackboneParams:
        if self.alpha not in self.family.alphas:
            allowed = ", ".join(map(str, self.family.alphas))
            only = " only: it has no width multiplier" if len(self.family.alphas) == 1 else ""
            raise ValueError(
                f"backbone.alpha is {self.alpha}, and {self.name} takes {allowed}{only}"
            )
        return self

    @model_validator(mode="after")
    def _weights_are_pinned(self) -> BackboneParams:
        if self.weights == "stanford-dogs" and (self.name, self.alpha) != STANFORD_DOGS:
            name, alpha = STANFORD_DOGS
            raise ValueError(
                f"weights stanford-dogs exist for {name} of alpha {alpha} only, and backbone.name "
                f"is {self.name}, alpha is {self.alpha}"
            )
        if self.weights == "random" and self.weights_sha256 is not None:
            raise ValueError("weights random have no weights_sha256; set it to null")
        if names_a_user(self.weights):
            # Parameters stand in git, in MLflow and in messages: no place for a password.
            raise ValueError(
                "the address of the weights holds a name or a password; put them into ~/.netrc"
            )
        if self.weights.startswith("http://"):
            raise ValueError("weights are fetched by https only; the address starts with http://")
        if self.weights not in NAMED_WEIGHTS and self.weights_sha256 is None:
            raise ValueError(
                f"weights {self.weights!r} need backbone.weights_sha256 (run sha256sum on the "
                f"file), or one of {', '.join(NAMED_WEIGHTS)}"
            )
        return self
