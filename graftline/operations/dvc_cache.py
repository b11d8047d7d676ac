"""DVC's own cache: where its objects lie, and what they are called."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from graftline.operations.dvc_commands import dvc_ended

FOLDER = ".dir"
"""Ends the name of an object that lists a folder's files, as JSON."""


def cache_folder(root: Path, environment: Mapping[str, str] | None = None) -> Path | None:
    """Where the cache lies; None where DVC cannot tell.

    Args:
        root: Of a checkout.
        environment: For DVC; by default this process's.
    """
    # DVC breaks what it prints to the width of a terminal.
    wide = {**(os.environ if environment is None else environment), "COLUMNS": "100000"}
    asked = dvc_ended(root, "cache", "dir", environment=wide)
    return None if asked.returncode else root / asked.stdout.strip()


def objects_folder(root: Path, environment: Mapping[str, str] | None = None) -> Path | None:
    """Where the objects lie in it; see :func:`cache_folder`."""
    cache = cache_folder(root, environment)
    return None if cache is None else cache / "files" / "md5"


def object_in(cache: Path, name: str) -> Path:
    """Where an object lies in the folder of :func:`objects_folder`."""
    return cache / name[:2] / name[2:]
