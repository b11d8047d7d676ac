"""``graftline completion``: a script by which a shell completes commands and options."""

from __future__ import annotations

import sys

from graftline.core.workspace import Workspace

SHELLS = ("bash", "zsh", "fish")


def write_completion(_: Workspace, shell: str) -> int:
    """Runs ``graftline completion SHELL``: prints the script; returns the exit code 0."""
    import shtab

    from graftline.cli.main import make_parser

    sys.stdout.write(shtab.complete(make_parser(), shell=shell, root_prefix="graftline") + "\n")
    return 0
