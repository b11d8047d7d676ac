"""Where images come from: one module per kind of source, each giving a :class:`Catalog`."""

from __future__ import annotations

from pathlib import Path

from graftline.errors import DataError
from graftline.params import DataParams
from graftline.sources import bundled, folder, idx, keras_mnist, manifest, npz
from graftline.sources.catalog import Catalog

__all__ = ["read"]


def read(params: DataParams, root: Path, scratch: Path) -> Catalog:
    """What ``params`` name: a list of images that are read as they are asked for.

    Args:
        params: The ``data`` section.
        root: The folder that a relative ``data.path`` is relative to.
        scratch: An existing folder for what a source must unpack; the caller removes it.

    Raises:
        DataError: If there is no such source, or it is not what its kind should be.
        DownloadError: If the source must be fetched and cannot be.
    """
    if params.source == "mnist-5k":
        return bundled.catalog()
    if params.source == "mnist":
        return keras_mnist.catalog(scratch, params.max_image_px)
    path = _existing(root / (params.path or ""), params)
    if params.source == "idx":
        return idx.catalog(path, params.max_image_px)
    if params.source == "npz":
        return npz.catalog(path, scratch, params.max_image_px)
    if params.source == "folder":
        return folder.catalog(path, params.max_image_px)
    return manifest.catalog(path, params.manifest, params.max_image_px)


def _existing(path: Path, params: DataParams) -> Path:
    try:
        resolved = path.resolve(strict=True)
    except (OSError, RuntimeError, ValueError) as error:
        raise DataError(
            f"data.path is {params.path!r}, which cannot be reached: {error}",
            where=f"data.path: {params.path}",
            allowed=f"for data.source {params.source}: an existing {_kind(params)}",
            fix="correct data.path in params.yaml; a relative one starts at the checkout",
        ) from error
    if resolved.is_dir() != (_kind(params) == "folder"):
        raise DataError(
            f"data.path is {params.path!r}, which is a {'folder' if resolved.is_dir() else 'file'}",
            where=f"data.path: {params.path}",
            allowed=f"for data.source {params.source}: a {_kind(params)}",
            fix=_fix(resolved, params),
        )
    return resolved


def _kind(params: DataParams) -> str:
    return "file" if params.source == "npz" else "folder"


def _fix(resolved: Path, params: DataParams) -> str:
    if params.source == "manifest":
        return (
            f"set data.path to its folder ({Path(params.path or '').parent}) and data.manifest to "
            f"its name ({resolved.name})"
        )
    return f"set data.path to a {_kind(params)}, or data.source to what it is"
