"""Keras's folder: the user's own for downloads, and Graftline's for the settings.

Keras reads ``keras.json`` of its folder at import: number format, epsilon, order of the axes and
backend. These decide every result, so Graftline's processes read :data:`SETTINGS`, which is
committed. What was downloaded before is still found in the user's folder.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

SETTINGS = Path(__file__).resolve().parent / "keras_settings"
"""The KERAS_HOME of Graftline's own processes."""
VARIABLE = "GRAFTLINE_KERAS_HOME"
"""Keeps the user's folder while KERAS_HOME names :data:`SETTINGS`."""


def keras_home(environment: Mapping[str, str] | None = None) -> Path:
    """The user's folder: KERAS_HOME, else ``~/.keras``, else, without a home, ``/tmp/.keras``."""
    given = os.environ if environment is None else environment
    chosen = given.get("KERAS_HOME", "")
    # Of another checkout's process it may be the settings of that one.
    if chosen and Path(chosen).name != SETTINGS.name:
        return Path(chosen).expanduser()
    if kept := given.get(VARIABLE):
        return Path(kept)
    home = os.path.expanduser("~")
    return Path(home if os.access(home, os.W_OK) else "/tmp") / ".keras"


def foreign_settings(home: Path) -> Path | None:
    """The user's ``keras.json``, if it says anything else than Graftline's."""
    path = home / "keras.json"
    try:
        theirs = json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        return None
    except ValueError:
        return path
    ours = json.loads((SETTINGS / "keras.json").read_text(encoding="utf-8"))
    # A key that is left out has the same default.
    return None if isinstance(theirs, dict) and {**ours, **theirs} == ours else path
