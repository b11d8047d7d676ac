"""The registered model: MLflow runs this file, and nothing is unpickled (models from code).

Besides MLflow's own wrapping there is no second path: it is the predictor that ``graftline
predict`` and ``evaluate`` use.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel, PythonModelContext


class Classifier(PythonModel):
    """Raw images in, labels with probabilities out."""

    def load_context(self, context: PythonModelContext) -> None:
        """Loads the model that lies beside this file."""
        from graftline.predictor import Predictor

        self.predictor = Predictor(Path(context.artifacts["trained"]))

    # MLflow resolves these hints, and warns where it finds none that it knows.
    def predict(
        self,
        context: PythonModelContext,
        model_input: np.ndarray,
        params: dict[str, Any] | None = None,
    ) -> pd.DataFrame:
        """Names what is on each image.

        Args:
            context: MLflow's; not needed.
            model_input: uint8 (n, height, width, channels), with 1 or 3 channels and any size;
                or a one-dimensional array of objects, each such an image, if sizes differ.
            params: Takes none.

        Returns:
            One row per image: ``label``, ``probability``, and ``p_<class>`` for each class.
        """
        return self.predictor.table(model_input)


set_model(Classifier())
