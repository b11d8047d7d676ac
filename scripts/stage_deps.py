"""Brings the code dependencies in ``dvc.yaml`` up to date: ``python -m scripts.stage_deps``.

A stage depends on its step's module and on every module of graftline that this one imports; see
:func:`graftline.core.code_state.code_files`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from graftline.core.code_state import PACKAGE, code_files
from graftline.core.files import replacing_file


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
    return code_files(root, f"{PACKAGE}/steps/{stage}.py")


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
