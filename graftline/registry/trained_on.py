"""Which images a version was trained on, kept with it, so that it is never tested on them later.

An image is known by the first 8 bytes of its SHA-256. That is enough: the chance that one of a
million images is taken for one of a million others is 1 to 18 million.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from graftline.core.errors import TrackingError
from graftline.core.files import scratch_folder, sha256_file
from graftline.core.workspace import Workspace
from graftline.data.shards import PackedImages
from graftline.registry import tracking
from graftline.registry.tracking import Version

FILE = "trained_on.npy"
"""With the version's run, in ``training``: the images' numbers, uint64, in ascending order."""
TAG = "graftline.trained_on_sha256"
"""Of the version: the SHA-256 of that file."""
_FOLDER = "training"
_HEX_DIGITS = 16
_log = logging.getLogger(__name__)

Numbers = NDArray[np.uint64]


def numbers(hashes: Iterable[str]) -> Numbers:
    """The first 8 bytes of each hash, (n,)."""
    joined = bytes.fromhex("".join(one[:_HEX_DIGITS] for one in hashes))
    return np.frombuffer(joined, ">u8").astype(np.uint64)


def present(workspace: Workspace) -> Numbers:
    """The training and validation images that lie in ``data/loaded``, in ascending order.

    Validation images count, since the epoch and the temperature are chosen by them.

    Raises:
        MissingOutputError: If they are not there.
    """
    images = PackedImages.open(workspace.loaded)
    used = np.concatenate([images.indices("train"), images.indices("validation")])
    hashes = images.hashes.as_bytes(used)
    return np.unique(numbers(one.decode() for one in hashes))


def note(workspace: Workspace, version: Version) -> None:
    """Keeps with a version which images it was trained on, unless that has been done.

    A store that refuses this costs no training: later it is known of fewer test images that the
    version has not seen them.

    Args:
        workspace: Where its training and validation images lie.
        version: The one that was trained on them.
    """
    if TAG in version.tags:
        return
    with scratch_folder() as folder:
        path = folder / FILE
        np.save(path, present(workspace), allow_pickle=False)
        try:
            tracking.log_file(workspace, version.run_id, path, _FOLDER)
            tracking.tag_version(workspace, version, {TAG: sha256_file(path)})
        except TrackingError as error:
            _log.warning("the images it was trained on were not noted: %s", error)


def known(workspace: Workspace, version: Version) -> Numbers | None:
    """The images that a version was trained on; None if that is not kept, or not as it was."""
    if TAG not in version.tags:
        return None
    with scratch_folder() as folder:
        path = tracking.fetch_from_run(workspace, version.run_id, f"{_FOLDER}/{FILE}", folder)
        if path is None or sha256_file(path) != version.tags[TAG]:
            return None
        return _read(path)


def among(images: Numbers, hashes: Iterable[str]) -> NDArray[np.bool_]:
    """Whether each of some images, by its hash, is among others, (n,)."""
    found: NDArray[np.bool_] = np.isin(numbers(hashes), images)
    return found


def _read(path: Path) -> Numbers:
    values: Numbers = np.load(path, allow_pickle=False)
    return values
