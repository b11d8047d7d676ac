"""The record of the step ``assemble``."""

from __future__ import annotations

from typing import ClassVar, Literal

from graftline.core.records.record import Record


class LayerRecord(Record):
    """One layer of the backbone, in order from the input."""

    name: str
    kind: str
    """The Keras class, as in ``Conv2D``."""
    block: str
    """The block that it belongs to: ``stem``, ``block_0``, ``block_1`` and so on, ``top``."""
    params: int
    """The number of weights, statistics included."""
    multiply_adds: int
    """Multiplications with an addition that one image costs."""
    output_shape: tuple[int, ...]
    """Height, width, channels."""
    clean: bool
    """Whether all that follows depends on this layer's output alone (no shortcut passes it by)."""


class Assembled(Record):
    """``models/assembled/assembled.json``: the backbone, where it is cut, and the head to come."""

    lies_at: ClassVar[str] = "models/assembled/assembled.json"

    backbone: str
    alpha: float
    size_px: int
    cut: str
    weights: str
    """What the base weights are, as in ``params.yaml``."""
    weights_sha256: str | None
    """Of the file that they came from; null for random weights."""
    backbone_digest: str
    """SHA-256 over every variable of the backbone up to the cut."""
    layers: tuple[LayerRecord, ...]
    """Of the whole backbone, those after the cut too."""
    pooling: Literal["average", "max"]
    head_units: tuple[int, ...]
    dropout: float
    classes: tuple[str, ...]

    def up_to(self, cut: str) -> tuple[LayerRecord, ...]:
        """The layers up to and with one of them."""
        names = [layer.name for layer in self.layers]
        return self.layers[: names.index(cut) + 1]

    def feature_dim(self, cut: str) -> int:
        """Channels at a layer, which is what pooling gives there."""
        return self.up_to(cut)[-1].output_shape[-1]
