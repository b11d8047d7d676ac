"""The exception tree: everything that Graftline raises on purpose.

Exit code 2 means that the user can mend it, 1 that the fault is Graftline's.
"""

from __future__ import annotations

import errno
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class GraftlineError(Exception):
    """An error with what, where, what is allowed and what to do.

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
        super().__init__(what)
        self.what = what
        self.where = where
        self.allowed = allowed
        self.fix = fix

    def __str__(self) -> str:
        lines = [self.what]
        for title, text in (
            ("where", self.where),
            ("allowed", self.allowed),
            ("do", self.fix),
        ):
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


class DataError(UserError):
    """A source, image, label or split that cannot be used."""


class WeightsError(UserError):
    """Base weights that are absent, changed, or of another architecture."""


class DownloadError(UserError):
    """An address that could not be reached or that sent something else."""


class PipelineBusyError(UserError):
    """Another process holds the pipeline."""


class StorageFullError(UserError):
    """No space is left where an output was being written."""


class MissingOutputError(UserError):
    """A step was asked for before the step that feeds it has run."""


class TrainingDivergedError(UserError):
    """Loss or gradient became NaN or infinite."""


class ExportError(UserError):
    """The model cannot be brought into a format, or says too much else in it."""


class TrackingError(UserError):
    """The tracking store or the model registry cannot be used."""


class RollbackError(UserError):
    """There is no former champion that could come back."""


class ReproductionError(UserError):
    """A run that cannot be run again as it was."""


class ServerError(UserError):
    """A server of one's own that did not start, or a chosen one that does not answer."""


class NotificationError(UserError):
    """A command or web address that could not be told of a verdict; it never ends a flow."""


class StageFailedError(GraftlineError):
    """A stage ended with a fault of Graftline's own, or of something below it."""


def error_from_json(text: str) -> GraftlineError:
    """Rebuilds an error written by :meth:`GraftlineError.to_json`."""
    record = json.loads(text)
    kinds = {kind.__name__: kind for kind in _all_kinds(GraftlineError)}
    kind = kinds.get(record["kind"], StageFailedError)
    return kind(
        record["what"],
        where=record["where"],
        allowed=record["allowed"],
        fix=record["fix"],
    )


@contextmanager
def full_disk_reported(path: Path) -> Iterator[None]:
    """Turns the operating system's "no space left" into a :class:`StorageFullError`."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise StorageFullError(
            f"no space is left on the disk while writing {path}",
            where=str(path),
            fix="free some space and run again; the earlier output is untouched",
        ) from error


def _all_kinds(base: type[GraftlineError]) -> list[type[GraftlineError]]:
    kinds = [base]
    for kind in base.__subclasses__():
        kinds += _all_kinds(kind)
    return kinds
