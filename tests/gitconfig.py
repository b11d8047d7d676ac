"""What users set for all of their repositories, at its most awkward."""

from __future__ import annotations

from pathlib import Path

HOOKS = ("pre-commit", "prepare-commit-msg", "commit-msg", "post-commit", "post-checkout")
_SETTINGS = """\
[user]
    useConfigOnly = true
[core]
    autocrlf = true
    fileMode = false
    fsmonitor = /bin/false
    hooksPath = {hooks}
    symlinks = false
[color]
    ui = always
[commit]
    gpgSign = true
[tag]
    gpgSign = true
[gpg]
    program = /bin/false
[init]
    defaultBranch = backbone
[log]
    showSignature = true
[status]
    branch = true
    short = true
    showUntrackedFiles = no
"""


def awkward(folder: Path) -> dict[str, str]:
    """For the environment: nobody's name, every hook fails, nothing can be signed, CRLF."""
    hooks = folder / "hooks"
    hooks.mkdir(parents=True)
    for name in HOOKS:
        (hooks / name).write_text("#!/bin/sh\nexit 1\n")
        (hooks / name).chmod(0o755)
    config = folder / "gitconfig"
    config.write_text(_SETTINGS.format(hooks=hooks))
    return {"GIT_CONFIG_GLOBAL": str(config), "GIT_CONFIG_SYSTEM": "/dev/null"}
