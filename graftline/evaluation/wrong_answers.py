"""The test images that the model names wrongly, with the files that they came from."""

from __future__ import annotations

from pathlib import Path

from graftline.core.checksums import verify
from graftline.core.errors import MissingOutputError, unusable_output
from graftline.core.params import Params
from graftline.core.records import Record
from graftline.core.workspace import Workspace
from graftline.evaluation.answers import FILE

_COLUMNS = ("source", "label", "predicted", "probability")


class WrongAnswer(Record):
    """One test image that was named wrongly."""

    file: str
    """Its path; within the source where the image is no file of its own, as ``images[3]``."""
    label: str
    """What it is."""
    predicted: str
    """What the model takes it for."""
    probability: float
    """Of that."""


def wrong_answers(workspace: Workspace, params: Params) -> tuple[list[WrongAnswer], int]:
    """What ``evaluate`` found wrong, the surest first, and how many test images there are.

    Args:
        workspace: Where ``reports/evaluation`` lies.
        params: ``data.path`` is where the images came from.

    Raises:
        MissingOutputError: If nothing has been evaluated yet.
        DamagedFileError: If the answers are not what ``evaluate`` wrote.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    path = workspace.evaluation / FILE
    verify(path)
    try:
        table = pq.read_table(path, columns=list(_COLUMNS))
    except FileNotFoundError as error:
        raise MissingOutputError(
            "no model has been evaluated yet", where=str(path), fix="make run, or dvc repro"
        ) from error
    except (pa.ArrowException, OSError) as error:
        raise unusable_output(path, f"cannot be read: {error}") from error
    wrong = table.filter(pc.not_equal(table["label"], table["predicted"]))
    rows = wrong.sort_by([("probability", "descending"), ("source", "ascending")]).to_pylist()
    return [
        WrongAnswer(
            file=_file(params.data.path, row["source"], workspace.root),
            label=row["label"],
            predicted=row["predicted"],
            probability=row["probability"],
        )
        for row in rows
    ], len(table)


def _file(data_path: str | None, source: str, root: Path) -> str:
    # Of arrays and bundled sets the images are no files.
    if data_path is None or not (root / data_path / source).is_file():
        return source
    return str(Path(data_path) / source)
