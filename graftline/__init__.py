"""Grafts a new classifier onto a pretrained network, and proves every choice.

    import graftline

    project = graftline.Project("flowers")
    project.run({"train.epochs": 3})
    print(project.metrics.test_accuracy)
    for prediction in project.predict(["rose.jpg"]):
        print(prediction.label, prediction.probability)

The names below are all that there is for use from outside; ``docs/api.md`` tells of each. They are
imported when they are first asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from graftline.core.errors import GraftlineError
    from graftline.evaluation.predictor import Predictor
    from graftline.inference.predict import Prediction
    from graftline.operations.project import Project

__version__ = "0.1.0"
__all__ = ["GraftlineError", "Prediction", "Predictor", "Project", "__version__"]

_LIES_IN = {
    "GraftlineError": "graftline.core.errors",
    "Prediction": "graftline.inference.predict",
    "Predictor": "graftline.evaluation.predictor",
    "Project": "graftline.operations.project",
}


def __getattr__(name: str) -> object:
    if name not in _LIES_IN:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_LIES_IN[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
