"""How DVC is asked what is stale."""

from __future__ import annotations

import sys

_CODE = (
    "import gc, sys; gc.set_threshold(100_000, 50, 1000); from dvc.cli import main; "
    "sys.exit(main(['status', '--json']))"
)


def status_command() -> list[str]:
    """The command line of ``dvc status --json``.

    Over 70 000 source files DVC makes a million small objects that all stay; looking through them
    for garbage again and again would cost a fifth of its time (docs/measurements.md).
    """
    return [sys.executable, "-c", _CODE]
