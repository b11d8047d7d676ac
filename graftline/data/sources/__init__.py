"""Where images come from: one module per kind of source, each giving a :class:`Catalog`."""

from __future__ import annotations

from pathlib import Path

from graftline.core.params import DataParams
from graftline.data.seen import WholeFiles
from graftline.data.source_path import located
from graftline.data.sources import bundled, folder, idx, keras_mnist, manifest, npz
from graftline.data.sources.catalog import Catalog

__all__ = ["read"]


def read(params: DataParams, root: Path, scratch: Path, whole: WholeFiles | None = None) -> Catalog:
    """What ``params`` name: a list of images that are read as they are asked for.

    Args:
        params: The ``data`` section.
        root: The folder that a relative ``data.path`` is relative to.
        scratch: An existing folder for what a source must unpack; the caller removes it.
        whole: Takes down what the user's IDX files or archive were like, as they are read.

    Raises:
        DataError: If there is no such source, or it is not what its kind should be.
        DownloadError: If the source must be fetched and cannot be.
    """
    if params.source == "mnist-5k":
        return bundled.catalog()
    if params.source == "mnist":
        return keras_mnist.catalog(scratch, params.max_image_px)
    path, max_px, max_images = located(params, root), params.max_image_px, params.max_images
    if params.source == "idx":
        return idx.catalog(path, max_px, max_images, whole)
    if params.source == "npz":
        return npz.catalog(path, scratch, max_px, max_images, whole)
    if params.source == "folder":
        return folder.catalog(path, max_px, max_images)
    return manifest.catalog(path, params.manifest, max_px, max_images)
