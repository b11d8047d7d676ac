"""The content of a place now, against its content at the last announced change.

A place is the source that ``params.yaml`` names, any folder or file, a ``.dvc`` file, or an address
that DVC can list, as ``remote://NAME/PATH`` for one of its remotes.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from graftline.core.errors import DataError
from graftline.core.files import sha256_record
from graftline.core.params import read_params
from graftline.core.records import Record
from graftline.core.workspace import Workspace
from graftline.data.fingerprint import source_state
from graftline.data.litter import is_litter
from graftline.operations.changes import last_finished
from graftline.operations.dvc_commands import dvc_ended

ROUNDS = 60
"""How often a place is looked at before it is said to be changing still."""
_ADDRESS = re.compile(r"^[a-z][a-z0-9+.-]*://")
_OF_DVC = ("md5", "etag", "checksum", "size", "nfiles", "path", "version_id")


class Sighting(Record):
    """What was seen."""

    place: str
    digest: str
    before: str | None
    """The digest that was announced, or trained on, last; None where neither is known."""
    trained: bool
    """Whether it is what a flow was trained on last."""
    settled: bool
    """Whether two looks in a row saw the same."""
    due: bool
    """Whether it is to be announced."""

    def __str__(self) -> str:
        if not self.settled:
            return f"{self.place} is changing still; it is looked at again next time"
        if self.due:
            return f"{self.place} has changed"
        if self.trained:
            return f"{self.place} holds what was trained on last"
        if self.before is None:
            return f"{self.place} is seen for the first time"
        return f"{self.place} holds what it held"


class Announced(Record):
    """``var/watched/<key>.json``: what was told of a place last."""

    place: str
    digest: str
    at_s: float
    """Seconds since 1970."""


def sight(
    workspace: Workspace,
    place: str | None,
    *,
    settle_s: float,
    again_s: float,
    sleep: Callable[[float], None] = time.sleep,
) -> Sighting:
    """Looks at a place; one that has changed is looked at until it stays as it is.

    Args:
        workspace: The checkout.
        place: Where to look; None takes the source that ``params.yaml`` names.
        settle_s: Seconds between two looks at a place that has changed, so that a user who
            is copying a thousand images is waited for.
        again_s: Seconds after which a change of the source is announced again that no flow has
            been trained on since.
        sleep: For tests.

    Raises:
        DataError: If the place cannot be read.
        ParamsError: If ``params.yaml`` is not valid.
    """
    name = place or _source_name(workspace)
    known = Announced.find(_file(workspace, name))
    trained = _trained(workspace) if place is None else None
    digest = digest_of(workspace, place)
    settled = True
    if digest not in (known.digest if known else None, trained):
        settled = False
        for _ in range(ROUNDS):
            sleep(settle_s)
            last, digest = digest, digest_of(workspace, place)
            if settled := last == digest:
                break
    before = known.digest if known else trained
    return Sighting(
        place=name,
        digest=digest,
        before=before,
        trained=digest == trained,
        settled=settled,
        due=settled and _is_due(digest, known, trained, again_s, watched=place is None),
    )


def note_announced(workspace: Workspace, sighting: Sighting) -> None:
    """Writes down that others have been told of what was seen, or that it is the beginning."""
    Announced(place=sighting.place, digest=sighting.digest, at_s=time.time()).write(
        _file(workspace, sighting.place)
    )


def digest_of(workspace: Workspace, place: str | None) -> str:
    """The digest of what a place holds.

    For the source of ``params.yaml`` it is that of its files' contents, of which only the changed
    ones are read. For other folders it is that of names, sizes and times of change, without hidden
    files and litter.

    Raises:
        DataError: If the place cannot be read.
    """
    if place is None:
        return source_state(workspace, read_params(workspace.params_file).data).digest
    if _ADDRESS.match(place):
        return sha256_record(_listed(workspace, place))
    path = workspace.root / os.path.expanduser(place)
    try:
        if path.suffix == ".dvc" and path.is_file():
            return sha256_record(_tracked(path))
        if path.is_dir():
            return sha256_record(sorted(_below(path)))
        return sha256_record([_stamp(path)])
    except OSError as error:
        raise DataError(
            f"the watched place cannot be read: {error.strerror or error}",
            where=str(path),
            fix="mend the place that the deployment of the flow watch names",
        ) from error


def _is_due(
    digest: str, known: Announced | None, trained: str | None, again_s: float, *, watched: bool
) -> bool:
    if known is None:
        # What has been trained on is known without ever having been announced.
        return trained is not None and digest != trained
    if digest != known.digest:
        return digest != trained
    # A clock that was set back must not silence it for ever.
    old = not 0 <= time.time() - known.at_s < again_s
    return watched and trained is not None and digest != trained and old


def _trained(workspace: Workspace) -> str | None:
    finished = last_finished(workspace)
    return finished.source_digest if finished else None


def _source_name(workspace: Workspace) -> str:
    data = read_params(workspace.params_file).data
    return data.path or data.source


def _below(folder: Path) -> Iterator[tuple[str, int, int]]:
    # A folder that cannot be listed must not look like one that is empty.
    def fail(error: OSError) -> None:
        raise error

    for parent, folders, files in os.walk(folder, onerror=fail):
        # What a server leaves beside the images is no news.
        folders[:] = [name for name in folders if not is_litter(name)]
        for name in files:
            if is_litter(name):
                continue
            path = Path(parent, name)
            try:
                size, changed_ns = _stamp(path)
            except FileNotFoundError:
                # It went meanwhile, as half-copied files do when they get their names.
                continue
            yield str(path.relative_to(folder)), size, changed_ns


def _stamp(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def _tracked(path: Path) -> Any:
    """What a ``.dvc`` file says of its outputs, and of what they were imported from."""
    try:
        record = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
        return [
            {key: str(entry[key]) for key in _OF_DVC if key in entry}
            for part in ("deps", "outs")
            for entry in record.get(part, [])
        ]
    except (UnicodeDecodeError, YAMLError, AttributeError, TypeError) as error:
        raise DataError("this is no .dvc file of DVC's", where=str(path)) from error


def _listed(workspace: Workspace, address: str) -> list[str]:
    """Names and sizes below an address, as DVC lists them."""
    said = dvc_ended(workspace.root, "list-url", "--recursive", "--size", address)
    if said.returncode:
        lines = [line for line in said.stderr.splitlines() if line.startswith("ERROR")]
        raise DataError(
            "DVC cannot list it: " + " ".join(lines or said.stderr.splitlines()[-1:]),
            where=address,
            allowed="an address that dvc list-url takes, as remote://NAME/PATH",
        )
    # Size and path, or the path alone where an address tells no sizes.
    return sorted(
        line
        for line in said.stdout.splitlines()
        if not any(map(is_litter, line.split(maxsplit=1)[-1].split("/")))
    )


def _file(workspace: Workspace, place: str) -> Path:
    return workspace.var / "watched" / f"{sha256_record(place)[:16]}.json"
