"""Source ``mnist``: the 70 000 MNIST digits as Keras keeps them, with the split of their makers."""

from __future__ import annotations

from pathlib import Path

from graftline.core.errors import DownloadError
from graftline.core.files import sha256_file
from graftline.core.keras_home import keras_home
from graftline.data.download import fetch
from graftline.data.sources import npz
from graftline.data.sources.catalog import Catalog

# As keras.datasets.mnist has them.
ADDRESS = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/mnist.npz"
SHA256 = "731c5ac602752760c8e48fbffcf8c3b850d9dc2a2aedcf2cc48468fc17b673d1"


def catalog(scratch: Path, max_px: int) -> Catalog:
    """The digits, from Keras's cache, fetched into it first if they are not there.

    Raises:
        DownloadError: If they must be fetched and cannot be.
    """
    file = keras_home() / "datasets" / "mnist.npz"
    if not file.is_file() or sha256_file(file) != SHA256:
        try:
            fetch(ADDRESS, file, SHA256)
        except DownloadError as error:
            raise DownloadError(
                error.what,
                where=error.where,
                allowed=error.allowed,
                fix="to work offline, set data.source to mnist-5k (part of the installation), or "
                "to idx and data.path to a folder with the four MNIST files, or put mnist.npz "
                f"at {file}",
            ) from error
    return npz.catalog(file, scratch, max_px)
