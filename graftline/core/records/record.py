"""The base of every record: frozen, written as JSON in one move, read back strictly."""

from __future__ import annotations

import re
from pathlib import Path
from typing import ClassVar, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from graftline.core.checksums import damaged, sha256_bytes, verify
from graftline.core.errors import MissingOutputError, not_there_yet, unusable_output
from graftline.core.files import write_text
from graftline.core.workspace import Workspace

_SEALED = re.compile(rb'(.*),\n  "sha256": \["([0-9a-f]{64})"\]\n}\n?', re.DOTALL)


class Record(BaseModel):
    """A frozen record that is written as JSON and read back strictly."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
    lies_at: ClassVar[str] = ""
    """Where the one of a checkout lies, from its root on; empty for a kind without such a place."""

    @classmethod
    def file_name(cls) -> str:
        """What its file is called, in whatever folder."""
        return cls.lies_at.rpartition("/")[2]

    @classmethod
    def path_in(cls, workspace: Workspace) -> Path:
        """Where the one of a checkout lies."""
        return workspace.root / cls.lies_at

    @classmethod
    def read_in(cls, workspace: Workspace) -> Self:
        """Reads the one of a checkout; see :meth:`read`."""
        return cls.read(cls.path_in(workspace))

    @classmethod
    def find_in(cls, workspace: Workspace) -> Self | None:
        """The one of a checkout; see :meth:`find`."""
        return cls.find(cls.path_in(workspace))

    @classmethod
    def find(cls, path: Path) -> Self | None:
        """The record; None if it is not there, or is not what this version writes.

        Raises:
            DamagedFileError: If its folder lists another checksum for it.
        """
        try:
            return cls.read(path)
        except MissingOutputError:
            return None

    @classmethod
    def read(cls, path: Path) -> Self:
        """Reads the record that a step wrote.

        Raises:
            DamagedFileError: If its folder lists another checksum for it.
            MissingOutputError: If it is not there, or is not what this version writes.
        """
        verify(path)
        try:
            return cls.model_validate_json(cls._checked(path.read_bytes(), path))
        except FileNotFoundError as error:
            raise not_there_yet(path) from error
        except OSError as error:
            raise unusable_output(path, f"cannot be read: {error.strerror or error}") from error
        except ValidationError as error:
            raise unusable_output(path, "was written by another version of Graftline") from error

    def write(self, path: Path) -> None:
        """Writes the record in one move."""
        write_text(path, self._text() + "\n")

    def _text(self) -> str:
        return self._json()

    def _json(self) -> str:
        return self.model_dump_json(indent=2)

    @classmethod
    def _checked(cls, content: bytes, path: Path) -> bytes:
        """The content without what only tells whether it is whole."""
        return content


class SealedRecord(Record):
    """A record that is alone in its place, and so holds its checksum: in its last line but one.

    As a list, since DVC would show a text among the metrics.
    """

    def _text(self) -> str:
        text = self._json().removesuffix("\n}")
        return f'{text},\n  "sha256": ["{sha256_bytes(text.encode())}"]\n}}'

    @classmethod
    def _checked(cls, content: bytes, path: Path) -> bytes:
        found = _SEALED.fullmatch(content)
        if found is not None and sha256_bytes(found[1]) == found[2].decode():
            return found[1] + b"\n}"
        try:
            # One that an earlier version wrote has no checksum. No bit makes such a one of another.
            cls.model_validate_json(content)
        except ValidationError as error:
            raise damaged(path) from error
        return content
