"""How DVC is asked what is stale."""

from __future__ import annotations

from graftline.starts import module_command


def status_command() -> list[str]:
    """The command line of ``dvc status --json``.

    Over 70 000 source files DVC makes a million small objects that all stay; looking through them
    for garbage again and again would cost a fifth of its time (docs/measurements.md).
    """
    return module_command("dvc", "status", "--json")
