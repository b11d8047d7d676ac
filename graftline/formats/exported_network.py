"""The trained network as the formats take it: one function from images to probabilities."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

import graftline
from graftline.core.backbones import family_of
from graftline.core.records import ExportFormat, Trained
from graftline.formats.contract import Contract, InputContract, OutputContract, PreparationContract
from graftline.network.classifier import BACKBONE
from graftline.network.model_files import make_answering

IMAGES = "images"
PROBABILITIES = "probabilities"
SIGNATURE = "serving_default"


@dataclass(frozen=True)
class Network:
    """What is exported.

    Args:
        classifier: From uint8 (n, height, width, channels) of any size to probabilities (n,
            classes).
        trained: Its record.
        calibration: Training images as the model takes them, uint8 (1, height, width, channels);
            only where integers stand for all values are they looked at.
    """

    classifier: Any
    trained: Trained
    calibration: Callable[[], Iterator[NDArray[np.uint8]]]

    def answering(self, dtype: str = "uint8") -> Callable[[Any], Any]:
        """From images no larger than the network's input to probabilities.

        Args:
            dtype: What the images' values, 0 to 255, are stored as.
        """
        answer = make_answering(self.classifier, self.trained.size_px, dtype)

        def probabilities(images: Any) -> Any:
            return answer(images)[0]

        return probabilities

    def contract(
        self,
        format: ExportFormat,
        input_name: str = IMAGES,
        output: OutputContract | None = None,
        *,
        any_size: bool = False,
    ) -> Contract:
        """What a file of this network says of itself.

        Args:
            format: The file's.
            input_name: What the file calls its input.
            output: By default probabilities as they are.
            any_size: Whether the file shrinks larger images itself.
        """
        size_px = self.trained.size_px
        scaling = family_of(self.classifier.get_layer(BACKBONE)).scaling
        return Contract(
            format=format,
            graftline=graftline.__version__,
            weight_digest=self.trained.weight_digest,
            classes=self.trained.classes,
            input=InputContract(
                name=input_name,
                dtype="uint8",
                shape=(None, None, None, None),
                channels=(1, 3),
                value_range=(0, 255),
                white=self.trained.white,
                largest_px=None if any_size else size_px,
            ),
            preparation=PreparationContract(
                resized_px=size_px,
                scaled_to=scaling.words,
                scale=scaling.scale,
                offset=scaling.offset,
                bgr=scaling.bgr,
            ),
            output=output
            or OutputContract(name=PROBABILITIES, dtype="float32", scale=1.0, zero_point=0),
            signature=SIGNATURE if format == "saved_model" else None,
        )
