"""The stages of ``dvc.yaml`` that are the project's own, and the steps that wait for them."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path

from graftline.core.stage_params import keys_of_stages
from graftline.core.stages import STAGES
from graftline.operations.dvc_commands import dvc_ended

_EDGE = re.compile(r'^"(?P<before>.+)" -> "(?P<after>.+)";$', re.MULTILINE)
_DATA_FILE = ".dvc"
"""How the name of a file ends that only says what lies beside it; it runs nothing."""


def own_stages(
    root: Path, reported: Collection[str] = (), environment: Mapping[str, str] | None = None
) -> dict[str, tuple[str, ...]]:
    """By step, the own stages that it needs and that no step before it needs, in their order.

    Args:
        root: The checkout's root.
        reported: Further stages that DVC has named, as those of a ``dvc.yaml`` in a folder.
        environment: What DVC finds; by default what this process has.
    """
    # Most projects have none, and then DVC need not be asked.
    if not named_stages(root, reported):
        return {}
    # Where DVC cannot tell, what runs next says why.
    said = dvc_ended(root, "dag", "--dot", environment=environment).stdout
    return ordered([(found["before"], found["after"]) for found in _EDGE.finditer(said)])


def named_stages(root: Path, reported: Collection[str] = ()) -> list[str]:
    """All own stages by name, those too that no step needs.

    Args:
        root: See :func:`own_stages`.
        reported: See :func:`own_stages`.
    """
    names = dict.fromkeys((*keys_of_stages(root), *reported))
    return [name for name in names if name not in STAGES and not name.endswith(_DATA_FILE)]


def ordered(edges: Collection[tuple[str, str]]) -> dict[str, tuple[str, ...]]:
    """The same from pairs of a stage and one that depends on it."""
    needs: dict[str, list[str]] = {}
    for before, after in edges:
        needs.setdefault(after, []).append(before)
    found: dict[str, tuple[str, ...]] = {}
    seen: set[str] = set()
    for step in STAGES:
        own: list[str] = []
        _collect(step, needs, seen, own)
        if own:
            found[step] = tuple(own)
    return found


def _collect(name: str, needs: Mapping[str, list[str]], seen: set[str], own: list[str]) -> None:
    for before in needs.get(name, ()):
        if before in seen:
            continue
        seen.add(before)
        _collect(before, needs, seen, own)
        if before not in STAGES and not before.endswith(_DATA_FILE):
            own.append(before)
