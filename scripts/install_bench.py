"""Adds what Graftline is measured against to ``.venv``: ``python -m scripts.install_bench``.

``make bench`` calls it; nothing else needs these packages. They are pinned in
``requirements-bench.lock``, constrained by ``requirements.lock``, so that nothing changes that is
installed already. What cannot be installed is reported as absent by the benchmark.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from scripts.install import ROOT, VENV, one_at_a_time, stamp

LOCK = ROOT / "requirements-bench.lock"
STAMP = VENV / ".graftline-bench-installed"


def main() -> int:
    """Installs them unless they are there already.

    Returns:
        The exit code: always 0, since the benchmark says itself what it misses.
    """
    with one_at_a_time(ROOT / "var" / "locks" / "setup.lock"):
        wanted = stamp(ROOT, LOCK)
        if STAMP.is_file() and STAMP.read_text(encoding="utf-8") == wanted:
            return 0
        print(f"bench: installing the packages of {LOCK.name}, each checked by its hash")
        if subprocess.run(install_command(VENV, LOCK), cwd=ROOT, check=False).returncode:
            print("bench: not all could be installed; what is missing is reported as absent")
        else:
            STAMP.write_text(wanted, encoding="utf-8")
    return 0


def install_command(venv: Path, lock: Path) -> list[str]:
    """What installs a complete lock into an environment, and nothing beyond it."""
    options = ["--no-deps", "--compile-bytecode", "--require-hashes", "--quiet"]
    python = str(venv / "bin" / "python")
    return [
        str(venv / "bin" / "uv"),
        "pip",
        "install",
        "--python",
        python,
        *options,
        "-r",
        str(lock),
    ]


if __name__ == "__main__":
    sys.exit(main())
