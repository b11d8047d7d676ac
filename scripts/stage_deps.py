"""Brings the code dependencies in ``dvc.yaml`` up to date: ``python -m scripts.stage_deps``.

A stage depends on its step's module and on every module of graftline that this one imports,
directly or not, inside functions too. What only a type checker imports does not count, nor do the
modules that start steps.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from graftline.storage import replacing_file

PACKAGE = "graftline"
_NO_PART_OF_A_STEP = frozenset({"graftline/__init__.py", "graftline/__main__.py"})


def main() -> int:
    """Writes ``dvc.yaml`` anew if a stage's code dependencies have changed."""
    root = Path.cwd()
    target = root / "dvc.yaml"
    yaml = _yaml()
    record = yaml.load(target)
    stages = record["stages"]
    changed = [name for name in stages if _update(stages[name], root, name)]
    if changed:
        with replacing_file(target) as temporary:
            yaml.dump(record, temporary)
    print(f"dvc.yaml: brought up to date: {', '.join(changed)}" if changed else "dvc.yaml: current")
    return 0


def code_deps(root: Path, stage: str) -> list[str]:
    """The files of graftline that a stage's step consists of, sorted, relative to ``root``."""
    found: set[str] = set()
    waiting = [f"{PACKAGE}/{stage}.py"]
    while waiting:
        path = waiting.pop()
        if path in found or path in _NO_PART_OF_A_STEP:
            continue
        found.add(path)
        waiting += imported_files(root, path)
    return sorted(found)


def imported_files(root: Path, path: str) -> set[str]:
    """The files of graftline that one file imports."""
    tree = ast.parse((root / path).read_text(encoding="utf-8"), path)
    package = path.removesuffix("/__init__.py") if path.endswith("/__init__.py") else None
    parts = (package or path.rpartition("/")[0]).split("/")
    files: set[str] = set()
    for node in _executed(tree):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules = _from_modules(node, parts)
        else:
            continue
        for module in modules:
            files |= _files(root, module)
    return files


def _from_modules(node: ast.ImportFrom, parts: list[str]) -> list[str]:
    # `from package import name` may mean a module below the package or a name inside it: whichever
    # of the two is a file counts.
    base = parts[: len(parts) - node.level + 1] if node.level else []
    module = ".".join([*base, *([node.module] if node.module else [])])
    return [module, *(f"{module}.{alias.name}" for alias in node.names)]


def _executed(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            for other in child.orelse:
                yield other
                yield from _executed(other)
        else:
            yield child
            yield from _executed(child)


def _files(root: Path, module: str) -> set[str]:
    """The module's file and those of the packages around it, which Python runs too."""
    parts = module.split(".")
    if parts[0] != PACKAGE:
        return set()
    files = set()
    for end in range(1, len(parts) + 1):
        stem = "/".join(parts[:end])
        files |= {name for name in (f"{stem}.py", f"{stem}/__init__.py") if (root / name).is_file()}
    return files


def _update(stage: dict[str, Any], root: Path, name: str) -> bool:
    code = code_deps(root, name)
    others = [dep for dep in stage["deps"] if not str(dep).startswith(f"{PACKAGE}/")]
    if list(stage["deps"]) == code + others:
        return False
    stage["deps"][:] = code + others
    return True


def _yaml() -> YAML:
    yaml = YAML()
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.width = 100
    return yaml


if __name__ == "__main__":
    sys.exit(main())
