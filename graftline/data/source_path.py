"""Where a source lies: checked before anything runs, and again when it is read."""

from __future__ import annotations

from pathlib import Path

from graftline.core.errors import DataError
from graftline.core.params import DataParams


def located(params: DataParams, root: Path) -> Path:
    """The folder or file that ``data.path`` names.

    Args:
        params: The ``data`` section, of a source that has a path.
        root: The folder that a relative ``data.path`` is relative to.

    Raises:
        DataError: If it is not there, or is a file where a folder is needed, or the reverse.
    """
    path = root / (params.path or "")
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
