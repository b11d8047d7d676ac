"""The rows of the predictions, as Arrow tables; a part also keeps the features that are sampled."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from graftline.evaluation.feature_reference import FeatureSample
from graftline.evaluation.predictions import MOST_WHOLE, further_columns, further_values

if TYPE_CHECKING:
    import pyarrow as pa

FEATURES = "features"
"""The column of the parts, and of them alone, that holds the sampled features."""


@dataclass(frozen=True)
class Row:
    """What is known of one image before the model has seen it."""

    path: str
    sha256: str | None
    error: str | None


@dataclass(frozen=True)
class Labels:
    """What the probabilities mean.

    Args:
        classes: Names, in the order of the model's outputs.
        model: The registered model's name, or the folder that the model lies in.
        model_version: Its version in the registry; the digest of its weights if it has none.
    """

    classes: tuple[str, ...]
    model: str
    model_version: str

    def schema(self) -> pa.Schema:
        """Of the predictions."""
        import pyarrow as pa

        many = len(self.classes) > MOST_WHOLE
        further = [
            (name, pa.string() if many and name.startswith("label_") else pa.float32())
            for name in further_columns(self.classes)
        ]
        return pa.schema(
            [
                ("path", pa.string()),
                ("label", pa.string()),
                ("probability", pa.float32()),
                *further,
                ("model", pa.string()),
                ("model_version", pa.string()),
                ("sha256", pa.string()),
                ("error", pa.string()),
            ]
        )

    def table(self, rows: Sequence[Row], probabilities: NDArray[np.float32]) -> pa.Table:
        """The rows of some images; those that could not be read have null for every answer.

        Args:
            rows: One for each image.
            probabilities: Of those without an error, in their order, (read, classes).
        """
        import pyarrow as pa

        read = np.array([row.error is None for row in rows], bool)
        places = np.cumsum(read) - 1  # of each row among those that were read
        whole = np.zeros((len(rows), len(self.classes)), np.float32)
        whole[read] = probabilities[places[read]]
        best = whole.argmax(axis=1)
        labels = [self.classes[at] if known else None for at, known in zip(best, read, strict=True)]
        columns: list[Any] = [[row.path for row in rows], labels]
        further = further_values(whole, self.classes)
        columns += [pa.array(column, mask=~read) for column in (whole.max(axis=1), *further)]
        columns += [[text] * len(rows) for text in (self.model, self.model_version)]
        columns += [[row.sha256 for row in rows], [row.error for row in rows]]
        schema = self.schema()
        arrays = [
            pa.array(column, kind) for column, kind in zip(columns, schema.types, strict=True)
        ]
        return pa.Table.from_arrays(arrays, schema=schema)


def with_features(
    table: pa.Table, sampled: NDArray[np.bool_], features: NDArray[np.float32]
) -> pa.Table:
    """A part: the rows, and for those that are sampled their features.

    Args:
        table: The rows.
        sampled: Which of them have features, (rows,).
        features: Theirs, in order, (sampled, c).
    """
    import pyarrow as pa

    # As bytes, since Parquet does not give back lists of one size with nulls among them.
    rows = iter(features)
    values = [next(rows).tobytes() if wanted else None for wanted in sampled]
    return table.append_column(FEATURES, pa.array(values, pa.binary()))


def sampled_rows(parts: Sequence[Path], classes: Sequence[str]) -> FeatureSample | None:
    """The sample that some parts hold together; None if they keep no features."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    number_of = {name: number for number, name in enumerate(classes)}
    features: list[bytes] = []
    labels: list[int] = []
    confidence: list[NDArray[np.float32]] = []
    for part in parts:
        with pq.ParquetFile(part) as file:
            if FEATURES not in file.schema_arrow.names:
                return None
            table = file.read(columns=["label", "probability", FEATURES])
        table = table.filter(pc.is_valid(table[FEATURES]))
        labels += [number_of[name] for name in table["label"].to_pylist()]
        confidence.append(table["probability"].to_numpy())
        features += table[FEATURES].to_pylist()
    if not features:
        return None
    values = np.frombuffer(b"".join(features), np.float32)
    return FeatureSample(
        values.reshape(len(features), -1), np.array(labels, np.int64), np.concatenate(confidence)
    )


def metadata(known: Mapping[str, Any]) -> dict[str, str]:
    """What a reader of the file finds under ``graftline`` in its metadata."""
    return {"graftline": json.dumps(known, sort_keys=True, ensure_ascii=False)}
