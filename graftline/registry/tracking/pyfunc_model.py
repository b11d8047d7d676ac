"""The registered model: MLflow runs this file, and nothing is unpickled (models from code).

Besides MLflow's own wrapping there is no second path: it is the predictor that ``graftline
predict`` and ``evaluate`` use.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.pyfunc.model import PythonModel, PythonModelContext
from numpy.typing import NDArray

if TYPE_CHECKING:
    from graftline.data.white_levels import WhiteRule


class Classifier(PythonModel):
    """Images in, labels with probabilities out."""

    def load_context(self, context: PythonModelContext) -> None:
        """Loads the model that lies beside this file."""
        from graftline.core.params import MAX_IMAGE_PX
        from graftline.evaluation.predictor import Predictor

        self.predictor = Predictor(Path(context.artifacts["trained"]))
        # A model that was registered before models had it takes the default.
        self.max_px: int = (context.model_config or {}).get("max_image_px", MAX_IMAGE_PX)

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
            model_input: uint8 (n, height, width, channels), with 1 or 3 channels and any size; or
                a one-dimensional array of objects, each such an image, or an image file in base64.
                MLflow makes the latter of a table with one column, and of ``inputs`` in JSON.
            params: Takes none.

        Returns:
            One row per image: ``label``, ``probability``, and ``p_<class>`` for each class; of
            more than 256 classes ``label_2``, ``probability_2`` and so on to 5 instead.

        Raises:
            MlflowException: If one of them is no image.
        """
        from graftline.core.errors import DataError

        try:
            images = _images(model_input, self.max_px, self.predictor.white)
            return self.predictor.table(images)
        except DataError as error:
            raise MlflowException(str(error), error_code=INVALID_PARAMETER_VALUE) from error


def _images(given: Iterable[Any], max_px: int, white: WhiteRule) -> Iterable[NDArray[np.uint8]]:
    for place, image in enumerate(given):
        if isinstance(image, (str, bytes)):
            yield _decoded(image, place, max_px, white)
        elif isinstance(image, (list, np.ndarray)):
            yield _from_numbers(image)
        else:
            yield image


def _decoded(image: str | bytes, place: int, max_px: int, white: WhiteRule) -> NDArray[np.uint8]:
    from graftline.core.errors import DataError
    from graftline.data.decoding import KNOWN, decode, from_base64

    try:
        data = image if isinstance(image, bytes) else from_base64(image)
        return decode(data, max_px, white=white)
    except DataError as error:
        raise DataError(
            f"image {place} {error.what}",
            allowed=f"image files in base64 ({KNOWN}), or uint8 arrays",
        ) from error


def _from_numbers(image: Any) -> Any:
    """An array as it is; JSON's numbers as uint8, if that is what they can be."""
    array = np.asarray(image)
    if array.dtype == object:
        try:
            array = np.array(array.tolist())
        except ValueError:
            return array
    elif isinstance(image, np.ndarray):
        return array
    if array.dtype.kind in "iu" and array.size and array.min() >= 0 and array.max() <= 255:
        return array.astype(np.uint8)
    return array


set_model(Classifier())
