"""The code, packages and machine that a kept result depends on, beside its inputs.

A checkpoint that another version of any of these has written is not what this one would have come
to, so each that is taken up again has this in its key.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.metadata
import os
import platform
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

PACKAGE = "graftline"
_NO_PART_OF_A_STEP = frozenset(
    {
        "graftline/__init__.py",
        "graftline/__main__.py",
        "graftline/compute/__init__.py",
        "graftline/compute/cluster.py",
        "graftline/compute/cores.py",
        "graftline/compute/engine.py",
        "graftline/compute/own_cluster.py",
        "graftline/compute/parallel.py",
        "graftline/compute/parts.py",
        "graftline/compute/work.py",
        "graftline/compute/worker.py",
        "graftline/core/__init__.py",
        "graftline/core/errors.py",
        "graftline/core/fresh_start.py",
        "graftline/core/installing.py",
        "graftline/core/params/drift.py",
        "graftline/core/params/messages.py",
        "graftline/core/params/notify.py",
        "graftline/core/params/promote.py",
        "graftline/core/params/register.py",
        "graftline/core/process_identity.py",
        "graftline/core/processes.py",
        "graftline/core/progress.py",
        "graftline/core/redaction.py",
        "graftline/core/timings.py",
    }
)
"""What says how a step is getting on, or what was wrong, and decides nothing of what comes out."""
_DECIDING = (
    "ai-edge-litert",
    "h5py",
    "keras",
    "numpy",
    "pillow",
    "scikit-learn",
    "scipy",
    "tensorflow",
)
"""Packages that compute, or read what is computed with; the lock file names all others."""


def code_state(path: str, *, trains: bool) -> dict[str, Any]:
    """What the results of one module depend on, ready for a key.

    Args:
        path: The module that computes them, as ``graftline/steps/train.py``.
        trains: Whether it trains with TensorFlow, so that the device counts: weights that a GPU
            has trained are others than those of a processor.

    Returns:
        Digests of the module's file and of all that it imports from here; versions; the device.
    """
    root = Path(__file__).resolve().parents[2]
    return {
        "code": {name: _digest(root / name) for name in code_files(root, path)},
        "python": platform.python_version(),
        "packages": {name: version_of(name) for name in _DECIDING},
        "machine": [platform.system(), platform.machine()],
        "device": _devices() if trains else None,
    }


def step_digests(steps: Iterable[str]) -> dict[str, str]:
    """By step, SHA-256 over the names and texts of all modules that it runs.

    Args:
        steps: Their names, as in ``train``.
    """
    root = Path(__file__).resolve().parents[2]
    digests: dict[str, str] = {}
    for step in steps:
        digest = hashlib.sha256()
        for name in code_files(root, f"{PACKAGE}/steps/{step}.py"):
            digest.update(f"{name} {_digest(root / name)}\n".encode())
        digests[step] = digest.hexdigest()
    return digests


def code_files(root: Path, path: str, package: str | None = PACKAGE) -> list[str]:
    """A module's file and those that it imports, directly or not, inside functions too.

    What only a type checker imports does not count, nor do the modules that start steps.

    Args:
        root: The folder that holds the package.
        path: The module's file, relative to it.
        package: Whose modules count; None takes all that lie below ``root``.

    Returns:
        Sorted, relative to ``root``.
    """
    found: set[str] = set()
    waiting = [path]
    while waiting:
        file = waiting.pop()
        if file in found or file in _NO_PART_OF_A_STEP:
            continue
        found.add(file)
        waiting += imported_files(root, file, package)
    return sorted(found)


def imported_files(root: Path, path: str, package: str | None = PACKAGE) -> set[str]:
    """The files of one package, or of all below ``root``, that one file imports."""
    files: set[str] = set()
    for module in _imported_modules((root / path).read_text(encoding="utf-8"), path):
        if package is None or module.partition(".")[0] == package:
            files |= _files(root, module)
    return files


@functools.cache
def _imported_modules(text: str, path: str) -> frozenset[str]:
    package = path.removesuffix("/__init__.py") if path.endswith("/__init__.py") else None
    parts = (package or path.rpartition("/")[0]).split("/")
    modules: set[str] = set()
    for node in _executed(ast.parse(text, path)):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            modules |= set(_from_modules(node, parts))
    return frozenset(modules)


def _from_modules(node: ast.ImportFrom, parts: list[str]) -> list[str]:
    # `from package import name` may mean a module below the package or a name inside it: whichever
    # of the two is a file counts.
    base = parts[: len(parts) - node.level + 1] if node.level else []
    module = ".".join([*base, *([node.module] if node.module else [])])
    return [module, *(f"{module}.{alias.name}" for alias in node.names)]


def _executed(tree: ast.Module) -> Iterator[ast.stmt]:
    """All statements, those inside functions too, but for what a type checker alone reads."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.stmt):
            yield node
        if isinstance(node, ast.If) and _asks_for_type_checker(node.test):
            waiting += node.orelse
        elif not isinstance(node, ast.expr):
            # No expression holds a statement, and most of a tree is expressions.
            waiting += ast.iter_child_nodes(node)


def _asks_for_type_checker(test: ast.expr) -> bool:
    return any("TYPE_CHECKING" in vars(node).values() for node in ast.walk(test))


def _files(root: Path, module: str) -> set[str]:
    """The module's file and those of the packages around it, which Python runs too."""
    parts = module.split(".")
    files = set()
    for end in range(1, len(parts) + 1):
        stem = "/".join(parts[:end])
        files |= {name for name in (f"{stem}.py", f"{stem}/__init__.py") if (root / name).is_file()}
    return files


def _digest(path: Path) -> str:
    # With whatever ends of lines git or an editor has written, it is the same code.
    return hashlib.sha256(path.read_bytes().replace(b"\r\n", b"\n")).hexdigest()


def version_of(package: str) -> str | None:
    """The version of a package; None if it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _devices() -> list[str]:
    import tensorflow as tf

    found = [f"oneDNN {os.environ.get('TF_ENABLE_ONEDNN_OPTS', '')}"]
    for device in tf.config.list_physical_devices():
        details = tf.config.experimental.get_device_details(device)
        found.append(f"{device.device_type} {details.get('device_name', '')}".rstrip())
    return found
