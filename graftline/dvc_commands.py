"""DVC's command line, its stable interface, for what only asks it and waits for the answer."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from graftline.starts import module_command

STATUS = ("status", "--json")
"""What asks DVC what is stale."""


def dvc_ended(
    root: Path, *arguments: str, limit_s: float, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """A DVC command that came to its end, with what it said.

    Over 70 000 source files DVC makes a million small objects that all stay; looking through them
    for garbage again and again would cost a fifth of its time (docs/measurements.md).

    Args:
        root: The checkout's root.
        arguments: Behind ``dvc``.
        limit_s: How long it may take, in seconds.
        environment: What it finds; by default what this process has.

    Raises:
        TimeoutExpired: If it takes longer; see :mod:`subprocess`.
    """
    return subprocess.run(
        module_command("dvc", *arguments),
        cwd=root,
        env=os.environ if environment is None else environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        encoding="utf-8",
        errors="replace",
        timeout=limit_s,
        check=False,
    )
