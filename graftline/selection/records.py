"""The record of a choice, for its readers; nothing heavy is imported here."""

from __future__ import annotations

from typing import ClassVar, Literal

from graftline.core.records import Record


class Situation(Record):
    """One of four: small or large, similar or different."""

    training_images: int
    images_per_class: float
    """The mean over the classes."""
    slope: float
    """Accuracy gained per doubling of the sample, over the whole learning curve."""
    slope_error: float
    gain_of_doubling: float
    """What doubling all training images would add, by the curve's power law."""
    small: bool
    rise: float
    """From the first depth to the best."""
    fall: float
    """From the best depth to the last layer."""
    fall_error: float
    fall_p_value: float
    different: bool

    @property
    def words(self) -> str:
        """As in "small and similar"."""
        size = "small" if self.small else "large"
        return f"{size} and {'different' if self.different else 'similar'}"


class Verdict(Record):
    """``reports/freezing/verdict.json``."""

    lies_at: ClassVar[str] = "reports/freezing/verdict.json"

    decided_by: Literal["race", "profile"]
    situation: str
    """As in "small and different"."""
    facts: Situation
    textbook: str
    """The candidate that the textbook's rule names."""
    chosen: str
    cut: str
    strategy: str
    accuracy: float
    """Of the chosen one, on held-out images: the race's last round, or the probe's."""
    standard_error: float
    held_out: int
    p_value: float
    """That it is right no less often than the best."""
    loss_p_value: float | None
    """That its loss is no higher than the best's; None where the profile decided."""
    best: str
    best_accuracy: float
    textbook_accuracy: float | None
    """In the last round that it took part in; None if it was not raced."""
    candidates: int
    """How many were raced."""
    backbone_share: float
    """Multiply-adds of the backbone up to the chosen cut, as a share of the whole backbone's."""
    budget: int | None
    """Multiply-adds; None for no limit."""
    spent: int
    """Multiply-adds of the race."""
    sentence: str
