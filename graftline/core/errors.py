"""The exception tree: everything that Graftline raises on purpose.

Exit code 2 means that the user can mend it, 1 that the fault is Graftline's.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from graftline.core.redaction import without_secrets

FULL_DISK = (errno.ENOSPC, errno.EDQUOT)
"""The system's numbers for it."""
_FULL_DISK_WORDS = ("No space left on device", "Disk quota exceeded", "database or disk is full")


class GraftlineError(Exception):
    """An error with what, where, what is allowed and what to do; addresses show no passwords.

    Args:
        what: What is wrong, naming what arrived.
        where: The file, key, row or address at fault.
        allowed: What would have been accepted.
        fix: What the user can do about it.
    """

    exit_code = 1

    def __init__(
        self,
        what: str,
        *,
        where: str | None = None,
        allowed: str | None = None,
        fix: str | None = None,
    ) -> None:
        # The code that catches it logs it, stores it or sends it on.
        what = without_secrets(what)
        super().__init__(what)
        self.what = what
        self.where = where and without_secrets(where)
        self.allowed = allowed and without_secrets(allowed)
        self.fix = fix and without_secrets(fix)

    def __str__(self) -> str:
        lines = [self.what]
        for title, text in (("where", self.where), ("allowed", self.allowed), ("do", self.fix)):
            if text:
                lines.append(f"  {title + ':':<9}" + text.replace("\n", "\n" + " " * 11))
        return visible("\n".join(lines))

    def to_json(self) -> str:
        """The error as JSON, so that it can cross from a stage's process to its caller's."""
        return json.dumps(
            {
                "kind": type(self).__name__,
                "what": self.what,
                "where": self.where,
                "allowed": self.allowed,
                "fix": self.fix,
            }
        )


def visible(text: str) -> str:
    """A text that is fit for a terminal and a log: what does not print is shown as its escape.

    File names and the contents of tables may hold control sequences, marks that turn the direction
    of writing, and bytes that are no text. Ends of lines stay.
    """
    if text.isascii() and text.replace("\n", "").isprintable():
        return text
    return "".join(
        sign if sign == "\n" or sign.isprintable() else repr(sign)[1:-1] for sign in text
    )


class UserError(GraftlineError):
    """Something that the user can mend; the base of all errors with exit code 2."""

    exit_code = 2


class ParamsError(UserError):
    """``params.yaml`` or an override holds an unknown key, a wrong type or a clash."""


class CodeChangedError(UserError):
    """A step's code is another than ``graftline.lock`` says."""


class DataError(UserError):
    """A source, image, label or split that cannot be used."""


class WeightsError(UserError):
    """Base weights that are absent, changed, or of another architecture."""


class DownloadError(UserError):
    """An address that could not be reached or that sent something else."""


class MissingPackageError(UserError):
    """A package that something needs which few ask for, and that is not installed here."""


class PipelineBusyError(UserError):
    """Another process holds the pipeline."""


class InterruptedExperimentError(UserError):
    """A killed ``dvc exp run`` still holds changes that were not committed."""


class StorageFullError(UserError):
    """No space is left where an output was being written."""


class NotWritableError(UserError):
    """A file or folder of the checkout that the system does not let this user write."""


class MissingOutputError(UserError):
    """A step was asked for before the step that feeds it has run."""


class DamagedFileError(UserError):
    """A file of an earlier step whose bytes are not those that were written."""


class WorkerLostError(UserError):
    """A process of a group that trains together is gone; the group can start again."""

    exit_code = 4


class TrainingDivergedError(UserError):
    """Loss or gradient became NaN or infinite."""


class ExportError(UserError):
    """The model cannot be brought into a format, or says too much else in it."""


class TrackingError(UserError):
    """The tracking store or the model registry cannot be used."""


class RollbackError(UserError):
    """There is no former champion that could come back."""


class ProjectError(UserError):
    """A folder that is no project or in which none can be made, or a step that one lacks."""


class RepositoryError(UserError):
    """A checkout in which git or DVC cannot be used as it is."""


class ReproductionError(UserError):
    """A run that cannot be run again as it was."""


class ServerError(UserError):
    """A server of one's own that did not start, or a chosen one that does not answer."""


class NotificationError(UserError):
    """A command or web address that could not be told of a verdict; it never ends a flow."""


class StalledError(UserError):
    """A process was stopped for its silence; see graftline/core/silence.py."""


class ClusterError(UserError):
    """A scheduler or a worker that cannot be reached, is lost, or is another than it must be."""


class StageFailedError(GraftlineError):
    """A stage ended with a fault of Graftline's own, or of something below it."""


def error_from_json(text: str) -> GraftlineError:
    """Rebuilds an error written by :meth:`GraftlineError.to_json`."""
    record = json.loads(text)
    kinds = {kind.__name__: kind for kind in _all_kinds(GraftlineError)}
    kind = kinds.get(record["kind"], StageFailedError)
    return kind(record["what"], where=record["where"], allowed=record["allowed"], fix=record["fix"])


@contextmanager
def full_disk_reported(path: Path) -> Iterator[None]:
    """Turns the operating system's "no space left" into a :class:`StorageFullError`."""
    try:
        yield
    except Exception as error:
        if isinstance(error, GraftlineError) or not _tells_of_full_disk(error):
            raise
        raise storage_full(path) from error


def storage_full(path: Path | str) -> StorageFullError:
    """That no space was left for a file or folder."""
    return StorageFullError(
        f"no space is left on the disk while writing {path}",
        where=str(path),
        fix="free some space and run again; the earlier output is untouched",
    )


def not_there_yet(path: Path, by: str | None = None) -> MissingOutputError:
    """That no step has written a file yet; ``by`` names the one that does."""
    fix = "run the steps before it: dvc repro, or python -m flows.train"
    what = f"{path} is not there yet" + (f"; {by} writes it" if by else "")
    return MissingOutputError(what, where=str(path), fix=fix)


def unusable_output(path: Path, problem: str) -> MissingOutputError:
    """That a step's file is not what it should be: ``problem`` goes on after its name."""
    fix = "run dvc repro, which writes it anew"
    return MissingOutputError(f"{path} {problem}", where=str(path), fix=fix)


def says_full_disk(text: str) -> bool:
    """Whether somebody else's message tells of a full disk."""
    return any(words in text for words in _FULL_DISK_WORDS)


def from_system(error: BaseException, directory: Path) -> GraftlineError | None:
    """What the user can mend of an error that nobody expected where it came up; else None.

    Args:
        error: Whatever was raised.
        directory: The checkout, for errors that name no file.
    """
    named = getattr(error, "filename", None)
    path = os.fsdecode(named) if isinstance(named, (str, bytes)) else str(directory)
    if _tells_of_full_disk(error):
        return storage_full(path)
    if isinstance(error, OSError) and error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return NotWritableError(
            f"the system does not let {path} be used: {error.strerror}",
            where=path,
            allowed="a checkout that this user may read and write",
            fix="give this user that right, or work in a copy elsewhere (git clone)",
        )
    return None


def _tells_of_full_disk(error: BaseException) -> bool:
    # HDF5, TensorFlow, SQLite and MLflow raise errors of their own, with the system's words in.
    return getattr(error, "errno", None) in FULL_DISK or says_full_disk(str(error))


def _all_kinds(base: type[GraftlineError]) -> list[type[GraftlineError]]:
    kinds = [base]
    for kind in base.__subclasses__():
        kinds += _all_kinds(kind)
    return kinds
