"""One hostile input, and what became of it."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Case:
    """Files and words that somebody may hand to Graftline.

    Args:
        door: Which way in, a name of :data:`tests.hostile.doors.DOORS`.
        files: Contents by name, in a folder of their own.
        words: Arguments, overrides, or what else the door takes.
    """

    door: str
    files: Mapping[str, bytes] = field(default_factory=dict)
    words: Sequence[str] = ()

    def to_json(self) -> str:
        files = {name: base64.b64encode(data).decode() for name, data in self.files.items()}
        # Words may hold what no text can: surrogates stand for the odd bytes of an argument.
        return json.dumps({"door": self.door, "files": files, "words": list(self.words)})

    @classmethod
    def from_json(cls, text: str) -> Case:
        record = json.loads(text)
        files = {name: base64.b64decode(data) for name, data in record["files"].items()}
        return cls(record["door"], files, record["words"])


@dataclass(frozen=True)
class Outcome:
    """What a door answered.

    Args:
        verdict: ``accepted``, ``refused`` (an error of Graftline's tree that the user can mend) or
            ``fault`` (anything else).
        said: The error's text, or the traceback of a fault.
        seconds: Of processor time that it took.
        grown_bytes: By how much the process's resident memory grew at most.
    """

    verdict: str
    said: str
    seconds: float
    grown_bytes: int
