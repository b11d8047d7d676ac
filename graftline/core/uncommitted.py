"""The files that a run was made from and that no commit holds: without them it is not reproduced.

Only what a stage reads counts. ``prefect.yaml`` says when something runs, ``flows/`` in which
order, ``tasks/`` what is shown: whatever they say, the same comes out.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path, PurePosixPath

from graftline.core.code_state import PACKAGE, code_files
from graftline.core.dvc_file import DVC_FILE, lies_in, relative, stages_in, texts
from graftline.core.errors import ParamsError
from graftline.core.params import read_record
from graftline.core.params.yaml_text import parse_yaml
from graftline.core.repository import changed_files, git
from graftline.core.stage_params import keys_read, picked
from graftline.core.stages import STAGES
from graftline.core.workspace import PARAMS_FILE


def uncommitted_files(root: Path) -> list[str] | None:
    """The files that a stage reads, and that differ from the last commit or are in none.

    ``params.yaml`` is among them if a value differs that a step reads; a run keeps its own.

    Args:
        root: The checkout's root.

    Returns:
        Their names, relative to ``root``; ``.`` alone where git tracks nothing of the checkout.
        None if git cannot tell.
    """
    changed = changed_files(root)
    if changed is None or changed == ["."]:
        return changed
    own, below = _read_by_own_stages(root)
    untracked = git(root, "ls-files", "--others", "-z", "--", *_places(own))
    names = {*changed, *(untracked or "").split("\0")} - {""}
    code = {name for name in names if name.startswith(f"{PACKAGE}/") and name.endswith(".py")}
    read = own
    # Reading the imports of all modules takes a moment, and most runs are made from what was
    # committed.
    if code and Path(__file__).resolve().parents[2] == root.resolve():
        for stage in STAGES:
            read |= set(code_files(root, f"{PACKAGE}/steps/{stage}.py"))
    counted = {name for name in names if name in read}
    # Data need not be in git; those that are there are to be there as they were read.
    counted |= {name for name in changed if any(lies_in(name, place) for place in below)}
    # An example's dvc.yaml is a link to the one above it, which git tells of there.
    links = {name for name in read if (root / name).is_symlink()}
    counted |= {name for name in links if _target_changed(root / name)}
    if PARAMS_FILE in names and _values_differ(root):
        counted.add(PARAMS_FILE)
    return sorted(counted)


def _target_changed(link: Path) -> bool:
    said = git(link.parent, "status", "--porcelain=v1", "--", str(link.resolve()))
    return bool(said)


def _places(own: set[str]) -> list[str]:
    # As they are, and not as patterns.
    return [f":(literal){name}" for name in (PACKAGE, *sorted(own))]


def _read_by_own_stages(root: Path) -> tuple[set[str], set[str]]:
    """What the stages' commands run and what steers them, and the places that they depend on."""
    code: set[str] = set()
    below = set(_paths_in_params(root))
    named = git(root, "ls-files", "-z", "--", f":(glob)**/{DVC_FILE}") or ""
    for file in {DVC_FILE, *named.split("\0")} - {""}:
        if _is_anothers(root, file):
            continue
        code.add(file)
        folder = PurePosixPath(file).parent
        for stage in stages_in(root / file).values():
            wdir = folder / str(stage.get("wdir") or "")
            for dependency in texts(stage.get("deps")):
                below.add(relative(root, wdir / dependency))
            for entry in stage.get("params") or ():
                if isinstance(entry, Mapping):
                    code |= {relative(root, wdir / str(name)) for name in entry}
            for command in texts(stage.get("cmd")):
                code |= set(_run_by(root, str(wdir), command))
    return code - {PARAMS_FILE}, below - {".", PARAMS_FILE}


def _is_anothers(root: Path, file: str) -> bool:
    """Whether it belongs to a project below this one, which DVC passes by."""
    above = [one for one in PurePosixPath(file).parents if str(one) != "."]
    return any((root / one / ".dvc").is_dir() for one in above)


def _run_by(root: Path, wdir: str, command: str) -> Iterator[str]:
    """The files that a stage's command names, with what they import from the checkout."""
    try:
        words = shlex.split(command)
    except ValueError:
        words = command.split()
    for before, word in zip(["", *words], words, strict=False):
        names = [word]
        if before == "-m":
            stem = word.replace(".", "/")
            names = [f"{stem}.py", f"{stem}/__main__.py"]
        for name in names:
            path = relative(root, PurePosixPath(wdir) / name)
            # The steps' own code is told by graftline.lock.
            if path.startswith(("/", "..", f"{PACKAGE}/")) or not (root / path).is_file():
                continue
            yield path
            if path.endswith(".py"):
                yield from _imported(root, path)


def _imported(root: Path, path: str) -> Iterator[str]:
    with suppress(OSError, ValueError, SyntaxError):
        yield from (one for one in code_files(root, path, None) if not lies_in(one, PACKAGE))
        # A script finds its neighbours by their names alone.
        folder = PurePosixPath(path).parent
        for one in code_files(root / folder, PurePosixPath(path).name, None):
            yield str(folder / one)


def _paths_in_params(root: Path) -> Iterator[str]:
    with suppress(ParamsError):
        record = read_record(root / PARAMS_FILE)
        for section, key in (("data", "path"), ("backbone", "weights")):
            if isinstance(value := (record.get(section) or {}).get(key), str):
                yield relative(root, PurePosixPath(value))


def _values_differ(root: Path) -> bool:
    """Whether ``params.yaml`` has another value than the commit's of a key that a step reads."""
    try:
        committed = parse_yaml(git(root, "show", f"HEAD:./{PARAMS_FILE}") or "", PARAMS_FILE)
        present = read_record(root / PARAMS_FILE)
    except ParamsError:
        return True
    if not isinstance(committed, dict):
        return True
    keys = keys_read(root)
    return picked(committed, keys) != picked(present, keys)
