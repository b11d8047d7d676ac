"""What every record is: frozen, written as JSON in one move, read back strictly."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError

from graftline.core.checksums import verify
from graftline.core.errors import MissingOutputError
from graftline.core.files import write_text


class Record(BaseModel):
    """A frozen record that is written as JSON and read back strictly."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Reads the record that a step wrote.

        Raises:
            DamagedFileError: If its folder lists another checksum for it.
            MissingOutputError: If it is not there, or is not what this version writes.
        """
        verify(path)
        try:
            text = path.read_text(encoding="utf-8")
            return cls.model_validate_json(cls._checked(text, path))
        except FileNotFoundError as error:
            raise MissingOutputError(
                f"{path} is not there yet",
                where=str(path),
                fix="run the steps before it: dvc repro, or python -m flows.train",
            ) from error
        except OSError as error:
            raise MissingOutputError(
                f"{path} cannot be read: {error.strerror or error}",
                where=str(path),
                fix="run dvc repro, which writes it anew",
            ) from error
        except (ValidationError, UnicodeDecodeError) as error:
            raise MissingOutputError(
                f"{path} was written by another version of Graftline",
                where=str(path),
                fix="run dvc repro, which writes it anew",
            ) from error

    def write(self, path: Path) -> None:
        """Writes the record in one move."""
        write_text(path, self._text() + "\n")

    def _text(self) -> str:
        return self.model_dump_json(indent=2)

    @classmethod
    def _checked(cls, text: str, path: Path) -> str:
        """The text without what only tells whether it is whole."""
        return text
