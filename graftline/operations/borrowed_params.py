"""``--once``: a ``params.yaml`` that holds for one run, and is put back at its end.

DVC reads the file, so it has to hold the run's values meanwhile. What it held before lies in
``var/params/once.json`` until it is back. A run that is killed leaves that there, and whatever
starts next puts it back.
"""

from __future__ import annotations

from typing import ClassVar

from graftline.core.errors import ParamsError
from graftline.core.files import write_text
from graftline.core.processes import ProcessIdentity
from graftline.core.records import Record
from graftline.core.workspace import Workspace


class Borrowed(Record):
    """``var/params/once.json``: the file as it was, and as it is for the run."""

    lies_at: ClassVar[str] = "var/params/once.json"

    before: str
    for_the_run: str
    run: ProcessIdentity


def borrow(workspace: Workspace, text: str) -> None:
    """Puts another text into ``params.yaml`` for as long as this process has it.

    Args:
        workspace: The project, whose pipeline is held.
        text: What the file is to hold.
    """
    before = workspace.params_file.read_text(encoding="utf-8")
    record = Borrowed(before=before, for_the_run=text, run=ProcessIdentity.of())
    record.write(Borrowed.path_in(workspace))
    write_text(workspace.params_file, text)


def put_back(workspace: Workspace) -> str | None:
    """Puts ``params.yaml`` back as it was; what was changed in it meanwhile stays.

    Returns:
        A line on what was done; None where nothing was borrowed.
    """
    path = Borrowed.path_in(workspace)
    borrowed = Borrowed.find(path)
    if borrowed is None:
        return None
    if workspace.params_file.read_text(encoding="utf-8") == borrowed.for_the_run:
        write_text(workspace.params_file, borrowed.before)
        said = "params.yaml is as it was before the run with --once"
    else:
        kept = path.with_name("before-once.yaml")
        write_text(kept, borrowed.before)
        place = kept.relative_to(workspace.root)
        said = f"params.yaml was changed during the run with --once, and stays; before: {place}"
    path.unlink()
    return said


def put_back_abandoned(workspace: Workspace) -> str | None:
    """As :func:`put_back`, if the process that has borrowed the file is gone."""
    borrowed = Borrowed.find_in(workspace)
    return None if borrowed is None or borrowed.run.alive() else put_back(workspace)


def refuse_abandoned(workspace: Workspace) -> None:
    """Sees to it that no stage runs with the parameters of a run that was killed.

    Raises:
        ParamsError: If ``params.yaml`` held those; it has been put back.
    """
    if said := put_back_abandoned(workspace):
        raise ParamsError(
            f"a run with --once was killed here, and its parameters were still there; {said}",
            where=str(workspace.params_file),
            fix="run the same command again",
        )
