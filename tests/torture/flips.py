"""Bits that flip in the files between two steps, as on a failing disk; and what becomes of them."""

from __future__ import annotations

import os
import random
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from graftline.core.checksums import CHECKSUMS
from graftline.core.dvc_lock import LOCK_FILE
from tests.torture.place import Place

Fate = Literal["noticed by a run", "found by mend", "harmless", "lost"]
"""``harmless``: the file was written anew, or nothing that reads it goes by those bits."""
FATES: tuple[Fate, ...] = ("noticed by a run", "found by mend", "harmless", "lost")
KINDS = (
    "data/loaded",
    "data/preprocessed",
    "models/assembled",
    "models/freeze_plan.json",
    "reports/freezing",
    "data/features",
    "checkpoints",
    "models/trained",
    "reports/history.csv",
    "reports/evaluation",
    "reports/metrics.json",
    "models/exports",
    "reports/exports",
    CHECKSUMS,
    "DVC's cache: files",
    "DVC's cache: folders",
    LOCK_FILE,
)
_NAMED = re.compile(r"(/\S+) is damaged: its bytes")
_MAX_BITS = 3


@dataclass
class Flip:
    """One accident.

    Args:
        number: Counts them.
        kind: What was hit, of :data:`KINDS`.
        path: The file.
        rotten: What it holds since.
        fate: What has become of it; None as long as that is not known.
    """

    number: int
    kind: str
    path: Path
    rotten: bytes
    fate: Fate | None = None

    @property
    def lies_there(self) -> bool:
        """Whether the file still holds the flipped bits."""
        try:
            return self.path.read_bytes() == self.rotten
        except OSError:
            return False


def flip(place: Place, chance: random.Random, before: list[Flip]) -> Flip:
    """Flips one to three bits of a file, rather of a kind that has been hit seldom."""
    found: dict[str, list[Path]] = {}
    undecided = {one.path for one in before if one.fate is None}
    for kind, path in _files(place):
        # Hit twice, a file would no longer tell of the first time.
        if path in undecided:
            continue
        found.setdefault(kind, []).append(path)
    hit = Counter(one.kind for one in before)
    kind = min(found, key=lambda kind: hit[kind] + chance.uniform(0, 1.5))
    path = chance.choice(sorted(found[kind]))
    content = bytearray(path.read_bytes())
    for _ in range(chance.randint(1, _MAX_BITS)):
        bit = chance.randrange(8 * len(content))
        content[bit // 8] ^= 1 << bit % 8
    write_in_place(path, bytes(content))
    return Flip(len(before) + 1, kind, path, bytes(content))


def write_in_place(path: Path, content: bytes) -> None:
    """Other bytes under the same name, inode, size, mode and time of writing."""
    before = path.stat()
    os.chmod(path, before.st_mode | 0o200)
    with path.open("r+b") as file:
        file.write(content)
    os.chmod(path, before.st_mode)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def named_in(said: str) -> set[Path]:
    """The files that a life said to be damaged."""
    # A terminal's width breaks no path, yet colours may stand around it.
    return {Path(name) for name in _NAMED.findall(re.sub(r"\x1b\[[0-9;]*m", "", said))}


def _files(place: Place) -> Iterator[tuple[str, Path]]:
    root = place.root
    cache = root / ".dvc" / "cache" / "files"
    for kind in KINDS:
        path = root / kind
        if path.is_dir():
            for one in path.rglob("*"):
                if one.is_file() and one.stat().st_size:
                    yield CHECKSUMS if one.name == CHECKSUMS else kind, one
        elif path.is_file():
            yield kind, path
    for path in (place.workspace.var / "checkpoints").rglob("*"):
        if path.is_file() and path.stat().st_size:
            yield "checkpoints", path
    for path in cache.rglob("*"):
        if path.is_file() and path.stat().st_size:
            yield f"DVC's cache: {'folders' if path.suffix == '.dir' else 'files'}", path
