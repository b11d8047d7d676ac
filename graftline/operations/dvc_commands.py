"""DVC's command line, its stable interface, for what only asks it and waits for the answer."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

from graftline.core.silence import ended
from graftline.core.startup import module_command

STATUS = ("status", "--json")
"""What asks DVC what is stale."""


def dvc_ended(
    root: Path, *arguments: str, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """A DVC command that came to its end, with what it said, however many files it looked at.

    Over 70 000 source files DVC makes a million small objects that all stay; looking through them
    for garbage again and again would cost a fifth of its time (docs/measurements/decisions.md).

    Args:
        root: The checkout's root.
        arguments: Behind ``dvc``.
        environment: What it finds; by default what this process has.

    Raises:
        StalledError: If it gave no sign of life for long.
    """
    return ended(module_command("dvc", *arguments), cwd=root, environment=environment)
