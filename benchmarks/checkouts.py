"""Copies of this checkout without anything that it has made, for runs from a cold start."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from graftline.core.dvc_lock import LOCK_FILE
from graftline.core.workspace import Workspace

_LIMIT_S = 1800
_GIT = ("git", "-c", "user.name=Benchmark", "-c", "user.email=benchmark@localhost")


@dataclass(frozen=True)
class Finished:
    """One command that has come to its end.

    Args:
        began_s: When it was started, in seconds since 1970.
        seconds: How long it took.
        output: What it printed.
    """

    began_s: float
    seconds: float
    output: str


@contextmanager
def copied_checkout() -> Iterator[Path]:
    """A copy of the files that git does not ignore, as they are now, with a history of its own.

    It has no ``var/``, no cache, no outputs and no bytecode; commands in it use this environment.
    ``params.yaml`` is the committed one: any run with other parameters rewrites the file, and may
    name data that the copy has not.
    """
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    with tempfile.TemporaryDirectory(prefix="graftline-bench-") as scratch:
        root = Path(scratch) / "checkout"
        for name in filter(None, listed.split("\0")):
            # The examples are links into the checkout, and stay so.
            if Path(name).is_file() or Path(name).is_symlink():
                target = root / name
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(name, target, follow_symlinks=False)
        params = Workspace(root).params_file
        committed = subprocess.run(
            ["git", "show", f"HEAD:./{params.name}"], check=True, capture_output=True
        )
        params.write_bytes(committed.stdout)
        (root / LOCK_FILE).unlink(missing_ok=True)
        for command in (["init", "--quiet"], ["add", "--all"], ["commit", "--quiet", "-m", "x"]):
            subprocess.run([*_GIT, *command], cwd=root, check=True)
        yield root


def run(root: Path, *commands: Sequence[str]) -> Finished:
    """Runs Python modules one after the other in a copy, as a target of the Makefile does.

    Args:
        root: The copy.
        commands: Each what comes after ``python -m``.

    Raises:
        RuntimeError: If one of them fails; the message holds the end of what it printed.
    """
    environment = {
        name: text
        for name, text in os.environ.items()
        if name not in ("PYTHONDONTWRITEBYTECODE", "PYTHONPATH")
    }
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    output = ""
    began_s, started_s = time.time(), time.perf_counter()
    for command in commands:
        done = subprocess.run(
            [sys.executable, "-m", *command],
            cwd=root,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_LIMIT_S,
            check=False,
        )
        output += done.stdout
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)} failed:\n{output[-2000:]}")
    return Finished(began_s, time.perf_counter() - started_s, output)
