"""The record of the step ``train``."""

from __future__ import annotations

from typing import ClassVar

from graftline.core.records.freeze import ComputedIn
from graftline.core.records.load import WhiteLevels
from graftline.core.records.record import Record


class Trained(Record):
    """``models/trained/trained.json``: what training ended with."""

    lies_at: ClassVar[str] = "models/trained/trained.json"

    classes: tuple[str, ...]
    size_px: int
    best_epoch: int
    """The one whose weights were kept, counted from 1."""
    epochs_run: int
    validation_accuracy: float
    validation_loss: float
    """Of the exported weights. One number, the temperature, was chosen for it on the same images,
    so that other images' loss is a little higher; that of the epochs is in the history."""
    temperature: float = 1.0
    """What the logits were divided by, so that confidences suit the validation answers best: above
    1 where the network was too bold, below where it was too modest. Part of the exported weights.
    """
    weight_digest: str
    """SHA-256 over every variable of the exported model."""
    frozen_digest_before: str
    frozen_digest_after: str
    """SHA-256 over every frozen variable, BatchNormalization statistics included."""
    trainable_params: int
    frozen_params: int
    history_sha256: str | None = None
    """Of ``reports/history.csv``; null in a record of an earlier version."""
    white: WhiteLevels = WhiteLevels()
    """How images of more than 8 bits are read: by the rule of the training images."""
    drawings: bool = False
    """Whether it was trained on grey drawings; false in a record of an earlier version."""
    precision: ComputedIn = "float32"
    """What its backbone computes in, where a machine can; float32 in an earlier version's record.
    """
