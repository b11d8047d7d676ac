"""Going back to earlier parameters takes the earlier outputs from DVC's cache.

DVC has a run cache of its own, and leaves it alone for stages whose outputs persist, as all of ours
do: an earlier output has to stay until the new one is whole. So each stage that DVC runs notes what
it was made from and what came out, and DVC's cache is asked for that before the work is done again.

Both ends are held to our own checksums (:mod:`graftline.core.checksums`). Whatever does not fit, or
is gone from the cache, is made anew.
"""

from __future__ import annotations

import json
import os
import shutil
from contextlib import ExitStack
from pathlib import Path

from graftline.core.checksums import CHECKSUMS, verify_all
from graftline.core.code_lock import locked_digests
from graftline.core.dvc_file import DVC_FILE, stages_in, texts
from graftline.core.dvc_lock import read_locked_stage
from graftline.core.errors import DamagedFileError, GraftlineError, MissingOutputError
from graftline.core.files import (
    replacing_directory,
    replacing_file,
    sha256_file,
    sha256_record,
    write_text,
)
from graftline.core.params import Params
from graftline.core.records import OF_STAGE, Record
from graftline.core.stage_params import keys_of_stages, picked
from graftline.core.workspace import Workspace
from graftline.operations.dvc_cache import FOLDER, object_in, objects_folder

TAKEN = "the inputs are those of an earlier run, whose results came from DVC's cache"
"""What a stage says that has not worked."""
_LAST = "last"


class Result(Record):
    """``var/results/STAGE/KEY.json``: what a stage made of certain inputs."""

    outs: dict[str, str]
    """The content of each output; see :func:`_content`."""
    objects: dict[str, str] = {}
    """What DVC's cache calls each; empty until DVC has written the stage down."""


class EarlierResults:
    """What one stage has made before.

    Args:
        workspace: The checkout, in which DVC runs the stage.
        stage: Its name.
        params: What ``params.yaml`` holds.
    """

    def __init__(self, workspace: Workspace, stage: str, params: Params) -> None:
        self._workspace, self._stage = workspace, stage
        self._folder = workspace.var / "results" / stage
        self._deps, self._outs = _files_of(workspace.root, stage)
        # Who runs a stage by hand wants it to run, and a source may hold something else by now.
        known = "DVC_STAGE" in os.environ and stage in OF_STAGE and stage != "load"
        self._key = key_of(workspace, stage, params) if known else None
        if self._key is not None:
            self._complete_last()

    def take(self) -> Record | None:
        """Puts the outputs in their places, if the same inputs were here before.

        If those of its last run lie there still, who runs it again all the same wants it to run.

        Returns:
            The stage's record; None if the stage has to work.
        """
        if self._key is None:
            return None
        there = all((self._workspace.root / out).exists() for out in self._outs)
        if there and self._key == self._last():
            return None
        found = Result.find(self._path(self._key))
        if found is None or not found.objects or found.objects.keys() != found.outs.keys():
            return None
        try:
            for dep in self._deps:
                verify_all(self._workspace.root / dep)
            self._restore(found)
            record = OF_STAGE[self._stage].read_in(self._workspace)
        # Another error than one of ours is one in the cache: not there, or not as it was.
        except (GraftlineError, OSError, ValueError, KeyError, TypeError):
            return None
        self._note_last()
        return record

    def note(self) -> None:
        """Notes what the stage has made, once it is there."""
        outs = {out: _content(self._workspace.root / out) for out in self._outs}
        if self._key is None or None in outs.values():
            return
        made = Result(outs={out: content or "" for out, content in outs.items()})
        before = Result.find(self._path(self._key))
        # Of the same outputs it is known what DVC's cache calls them.
        if before is None or before.outs != made.outs:
            made.write(self._path(self._key))
        self._note_last()

    def _complete_last(self) -> None:
        """DVC has written down the last run by now, and overwrites that soon."""
        if (key := self._last()) is None:
            return
        found = Result.find(self._path(key))
        locked = read_locked_stage(self._workspace.root, self._stage)
        if found is None or found.objects or locked is None:
            return
        objects = {out: locked.outs[out] for out in found.outs if locked.outs.get(out)}
        found.model_copy(update={"objects": objects}).write(self._path(key))

    def _restore(self, found: Result) -> None:
        root = self._workspace.root
        cache = objects_folder(root)
        if cache is None:
            raise MissingOutputError("DVC does not tell where its cache lies")
        with ExitStack() as stack:
            # All of them are whole before the first comes into its place.
            for out, name in found.objects.items():
                target = root / out
                if name.endswith(FOLDER):
                    new = stack.enter_context(replacing_directory(target))
                    _copy_folder(cache, name, new)
                else:
                    new = stack.enter_context(replacing_file(target))
                    shutil.copyfile(object_in(cache, name), new)
                if _content(new) != found.outs[out]:
                    raise DamagedFileError(f"{out} is not in DVC's cache as it was written")
                verify_all(new)

    def _last(self) -> str | None:
        try:
            return (self._folder / _LAST).read_text(encoding="utf-8")
        except OSError:
            return None

    def _note_last(self) -> None:
        write_text(self._folder / _LAST, self._key or "")

    def _path(self, key: str) -> Path:
        return self._folder / f"{key}.json"


def key_of(workspace: Workspace, stage: str, params: Params) -> str | None:
    """What the outputs of a stage depend on; None where that cannot be told.

    For ``load`` that is the listing of its source: it is told without reading it.

    Args:
        workspace: The checkout.
        stage: Its name.
        params: What ``params.yaml`` holds.
    """
    root = workspace.root
    names, outs = _files_of(root, stage)
    if stage == "load":
        from graftline.data.fingerprint import listing_digest

        deps: dict[str, str | None] = {"source": listing_digest(workspace, params.data)}
    else:
        deps = {dep: _content(root / dep) for dep in names}
    code = locked_digests(root).get(stage)
    if not outs or code is None or None in deps.values():
        return None
    record = params.model_dump(mode="json", by_alias=True)
    keys = keys_of_stages(root).get(stage, ())
    return sha256_record([stage, code, deps, [*outs], picked(record, keys)])


def _content(path: Path) -> str | None:
    """What tells a path's content from another: of a folder its list of checksums.

    None where it is not there, or a folder has no such list.
    """
    listed = path / CHECKSUMS if path.is_dir() else path
    return sha256_file(listed) if listed.is_file() else None


def _copy_folder(cache: Path, name: str, target: Path) -> None:
    for one in json.loads(object_in(cache, name).read_bytes()):
        place = target / one["relpath"]
        if not place.resolve().is_relative_to(target.resolve()):
            raise MissingOutputError(f"{name} of DVC's cache leads out of its folder")
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(object_in(cache, one["md5"]), place)


def _files_of(root: Path, stage: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What a stage reads and writes, as ``dvc.yaml`` says; nothing where that cannot be told."""
    entry = stages_in(root / DVC_FILE).get(stage, {})
    written = [*texts(entry.get("outs")), *texts(entry.get("metrics"))]
    return tuple(texts(entry.get("deps"))), tuple(written)
