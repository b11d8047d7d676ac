"""Processes that begin and end quickly: rarer garbage collection, and no imports that nobody uses.

Importing makes millions of small objects that all stay. Looking through them for garbage, as Python
does after every 700 new ones, takes a fifth of the time of an import; looking through them once
more at the end takes as long again (docs/measurements/decisions.md).
"""

from __future__ import annotations

import atexit
import gc
import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager

THRESHOLDS = (100_000, 50, 1000)
_UNUSED_BY_KERAS = ("matplotlib", "pandas", "sklearn")
"""What Keras imports if it is installed, for functions that Graftline never calls."""


def collect_rarely() -> None:
    """Makes this process look for garbage less often, and not once more when it ends."""
    gc.set_threshold(*THRESHOLDS)
    atexit.register(gc.freeze)


def module_command(module: str, *arguments: str) -> list[str]:
    """The command line of ``python -m module arguments``, after :func:`collect_rarely`."""
    code = (
        f"import atexit, gc, runpy; gc.set_threshold{THRESHOLDS}; atexit.register(gc.freeze); "
        f"runpy.run_module({module!r}, run_name='__main__', alter_sys=True)"
    )
    return [sys.executable, "-c", code, *arguments]


def import_keras() -> None:
    """Imports TensorFlow and Keras without what Keras takes along only where it is installed.

    That halves the time. A module that needs one of those imports it afterwards as ever.
    """
    with _hidden(_UNUSED_BY_KERAS):
        importlib.import_module("tensorflow")
        importlib.import_module("keras")


@contextmanager
def _hidden(modules: tuple[str, ...]) -> Iterator[None]:
    # Python takes None in sys.modules for a module that is not installed.
    hidden = [name for name in modules if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in hidden:
            sys.modules.pop(name, None)
