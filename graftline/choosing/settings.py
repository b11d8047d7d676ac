"""The parameters that choosing depends on, and no others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from graftline.params import FreezeParams, HeadParams, TuneParams


@dataclass(frozen=True)
class Settings:
    """Sections of ``params.yaml``.

    Args:
        seed: Of every random choice.
        head: What the trained head is made of.
        freeze: Budget, sample size and what may happen to BatchNormalization.
        tune: How a full fine-tuning goes, of which the race's are short versions.
    """

    seed: int
    head: HeadParams
    freeze: FreezeParams
    tune: TuneParams

    def of_profile(self) -> dict[str, Any]:
        """What the depth profile depends on."""
        return {"seed": self.seed, "max_images": self.freeze.max_images}

    def of_trials(self) -> dict[str, Any]:
        """What a trial depends on beside its candidate; the budget is not among it."""
        return {
            "seed": self.seed,
            "head": self.head.model_dump(mode="json"),
            "tune": self.tune.model_dump(mode="json"),
        }
