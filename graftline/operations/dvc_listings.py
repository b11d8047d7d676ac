"""DVC's listings of a folder: names of files, which must stay inside of it.

DVC 3.67 writes where a listing says, also to ``../../x``. A folder's listing stands in ``dvc.lock``
(``files``) or, by its hash, in the cache.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from io import StringIO
from pathlib import Path, PurePosixPath
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from graftline.core.errors import ReproductionError, visible

_FOLDER = re.compile(r"([0-9a-f]{2})([0-9a-f]{30}\.dir)")
_SHAPES = (AttributeError, KeyError, TypeError)
"""What a value of another shape leads to."""


def checked_lock(path: Path, folder: str) -> tuple[str, str | None]:
    """A ``dvc.lock`` of unknown origin, written anew from what was looked at.

    Args:
        path: The file.
        folder: An output, as in ``data/loaded``.

    Returns:
        Its text, and the hash of the folder's listing; None if there is none.

    Raises:
        ReproductionError: If it is no such file, or names a file outside of a folder.
    """
    try:
        record = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
        outs = [one for stage in record["stages"].values() for one in stage.get("outs") or ()]
        names = [file["relpath"] for one in outs for file in one.get("files") or ()]
        hashes = [str(one.get("md5", "")) for one in outs if one["path"] == folder]
    except (UnicodeDecodeError, YAMLError, RecursionError, *_SHAPES) as error:
        raise _none(path) from error
    _check(path, names)
    text = StringIO()
    YAML(typ="safe", pure=True).dump(record, text)
    return text.getvalue(), next((one for one in hashes if _FOLDER.fullmatch(one)), None)


def listing(cache: Path, digest: str) -> Path | None:
    """A folder's listing in a cache; None if it is not there.

    Raises:
        ReproductionError: If it is no listing, or names a file outside of the folder.
    """
    found = _FOLDER.fullmatch(digest)
    if found is None:
        return None
    for place in (cache / "files" / "md5", cache):
        path = place / found[1] / found[2]
        if path.is_file():
            try:
                names = [one["relpath"] for one in json.loads(path.read_bytes())]
            except (ValueError, RecursionError, *_SHAPES) as error:
                raise _none(path) from error
            _check(path, names)
            return path
    return None


def _check(path: Path, names: Iterable[Any]) -> None:
    for name in names:
        parts = PurePosixPath(str(name)).parts
        if not parts or ".." in parts or parts[0].startswith("/") or "\0" in str(name):
            raise ReproductionError(
                f"{path.name} lists {visible(repr(str(name)))}, which leads out of the folder that "
                "it is listed in",
                where=str(path),
                allowed="names of files inside the folder",
                fix="do not run it again: somebody has altered the run's files, or DVC's",
            )


def _none(path: Path) -> ReproductionError:
    return ReproductionError(
        f"{path.name} is not what DVC writes",
        where=str(path),
        fix="put the run's files back from a backup",
    )
