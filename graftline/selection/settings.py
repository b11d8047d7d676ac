"""The parameters that choosing depends on, and no others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from graftline.core import params
from graftline.network.runners.choosing import LITERT, Computing


@dataclass(frozen=True)
class Settings:
    """Sections of ``params.yaml``: those that say how ``train`` trains, and ``freeze``.

    Args:
        seed: Of every random choice.
        head: What the trained head is made of.
        freeze: Budget, sample size and what may happen to BatchNormalization.
        train: How the head is trained, in the race as in the step ``train``.
        tune: How a full fine-tuning goes, of which the race's are short versions.
        augment: How training images are changed, likewise.
        extract: What is kept of the frozen part's outputs, and so which changes are drawn anew.
        computing: What runs the frozen part, and in what precision.
    """

    seed: int
    head: params.HeadParams
    freeze: params.FreezeParams
    train: params.TrainParams
    tune: params.TuneParams
    augment: params.AugmentParams
    extract: params.ExtractParams
    computing: Computing = LITERT

    @property
    def views(self) -> int:
        """Of a training image, where the frozen part's outputs are cached."""
        return self.augment.views if self.augment.active else 1

    def of_profile(self) -> dict[str, Any]:
        """What the depth profile depends on."""
        return {
            "seed": self.seed,
            "max_images": self.freeze.max_images,
            "computing": str(self.computing),
        }

    def of_trials(self) -> dict[str, Any]:
        """What a trial depends on beside its candidate; the budget is not among it."""
        sections = ("head", "train", "tune", "augment", "extract")
        return {"seed": self.seed, "computing": str(self.computing)} | {
            name: getattr(self, name).model_dump(mode="json") for name in sections
        }
