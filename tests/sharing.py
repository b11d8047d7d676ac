"""What is dear to make and only read is made once for all processes of a test session."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """A folder that the first process to ask for it makes, while the others wait.

    Args:
        factory: pytest's own, whose folder of the session the processes share.
        name: Of the folder.
        make: Fills the folder it is given. Nobody writes into it after that.
    """
    root = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent
    made = root / f"{name}.made"
    with FileLock(root / f"{name}.lock"):
        if not made.exists():
            folder = tempfile.mkdtemp(prefix=f"{name}-", dir=root)
            make(Path(folder))
            made.write_text(folder, encoding="utf-8")
        return Path(made.read_text(encoding="utf-8"))
