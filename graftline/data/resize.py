"""Images shrunk to what a network takes at most, antialiased, and never enlarged."""

from __future__ import annotations

import numpy as np
from PIL import Image

from graftline.data.decoding import Pixels


def shrink(image: Pixels, size_px: int) -> Pixels:
    """Shrinks an image to at most ``size_px`` in each direction, antialiased; never enlarges.

    Height and width shrink each for itself, as the model's own resizing does: the aspect ratio is
    not kept.

    Args:
        image: Height, width, channels (1 or 3).
        size_px: The largest height and width, pixels.

    Returns:
        Height, width, channels; the image itself if it is small enough.
    """
    height, width, channels = image.shape
    if max(height, width) <= size_px:
        return image
    whole = Image.fromarray(image[..., 0] if channels == 1 else image)
    small = whole.resize((min(width, size_px), min(height, size_px)), Image.Resampling.BILINEAR)
    return np.asarray(small).reshape(small.height, small.width, channels)
