"""``reports/history.csv``: a row per epoch, held to the checksum in the record of its training."""

from __future__ import annotations

import csv
import io

from graftline.core.checksums import damaged, sha256_bytes
from graftline.core.records import Trained
from graftline.core.workspace import Workspace


def read_history(workspace: Workspace) -> list[dict[str, str]]:
    """The epochs, each with its cells by column.

    Raises:
        DamagedFileError: If its bytes are not those that ``train`` wrote.
        FileNotFoundError: If it is not there.
        UnicodeDecodeError: If it is no text.
    """
    content = workspace.history.read_bytes()
    trained = Trained.find_in(workspace)
    if trained is not None and trained.history_sha256 not in (None, sha256_bytes(content)):
        raise damaged(workspace.history)
    return list(csv.DictReader(io.StringIO(content.decode("utf-8"), newline="")))
