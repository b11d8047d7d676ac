"""How a short tuning differs from a full one, and in nothing else does a trial differ."""

from __future__ import annotations

import math

from graftline.core.params import TuneParams

_SMALLEST_BATCH = 8


def shortened(tune: TuneParams, shown: int, images: int) -> tuple[TuneParams, int]:
    """The section ``tune`` of a tuning that shows so many images, those that come again too.

    Fewer images are shown, and in smaller batches, so that it takes as many steps as the full
    one: its rates are those of the full one, so half of the steps would come half as far.

    Args:
        tune: Of the full tuning.
        shown: Images to be shown, at least 1.
        images: That there are.

    Returns:
        The section, and how many of the images are used. What shows all images in all epochs is
        the full tuning itself; folds that differ by an image make no difference here.
    """
    if shown + tune.epochs >= tune.epochs * images:
        return tune, images
    steps = tune.epochs * math.ceil(images / tune.batch_size)
    batch_size = min(tune.batch_size, max(_SMALLEST_BATCH, round(shown / steps)))
    epochs = max(1, round(shown / images))
    changed = {"epochs": epochs, "batch_size": batch_size}
    return tune.model_copy(update=changed), min(images, max(1, shown))
