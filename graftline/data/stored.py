"""The images that ``load`` has packed, as columns: objects would take ten times as much memory."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from graftline.core.records import SPLITS
from graftline.data.shards import coded, texts
from graftline.data.sources.catalog import SourceSample
from graftline.data.splits import NO_SPLIT

if TYPE_CHECKING:
    import pyarrow as pa

_DIGEST_BYTES = 64
"""Of a hash in hexadecimal."""
_PLACE, _SHAPE = ("shard", "offset", "length"), ("height", "width", "channels")


class StoredImages:
    """Images in the order of their source, each with its place in the shards.

    Args:
        classes: The names that their labels may have, in the order of the classes.
    """

    def __init__(self, classes: Sequence[str]) -> None:
        self.classes = tuple(classes)
        self._index = {name: label for label, name in enumerate(classes)}
        self._names, self._ends = bytearray(), array("q", [0])
        self._contents = bytearray()
        self._labels, self._given = array("i"), array("b")
        self._encodings: dict[str, int] = {}
        self._encoding = array("b")
        self._places, self._shapes = array("q"), array("i")

    def add(self, sample: SourceSample, place: tuple[int, int, int]) -> None:
        """One more, at its shard, offset and length."""
        self._names += sample.name.encode()
        self._ends.append(len(self._names))
        self._contents += sample.sha256.encode()
        self._labels.append(self._index[sample.label])
        self._given.append(NO_SPLIT if sample.split is None else SPLITS.index(sample.split))
        self._encoding.append(self._encodings.setdefault(sample.encoding, len(self._encodings)))
        self._places.extend(place)
        self._shapes.extend((sample.height, sample.width, sample.channels))

    def __len__(self) -> int:
        return len(self._labels)

    @property
    def contents(self) -> NDArray[np.bytes_]:
        """Each content's hash, in hexadecimal, (n,)."""
        return np.frombuffer(self._contents, f"S{_DIGEST_BYTES}")

    @property
    def labels(self) -> NDArray[np.int32]:
        """(n,)."""
        return np.frombuffer(self._labels, np.int32)

    @property
    def given(self) -> NDArray[np.int8]:
        """The source's own split, as its place in SPLITS, or NO_SPLIT, (n,)."""
        return np.frombuffer(self._given, np.int8)

    @property
    def shapes(self) -> NDArray[np.int32]:
        """Height, width and channels, (n, 3)."""
        return np.frombuffer(self._shapes, np.int32).reshape(-1, 3)

    def name(self, position: int) -> str:
        """Of one image, in its source."""
        return self._names[self._ends[position] : self._ends[position + 1]].decode()

    def order(self, splits: NDArray[np.int8]) -> NDArray[np.int64]:
        """By split, content, label and name.

        Args:
            splits: Of each, as its place in SPLITS, (n,).
        """
        rank = np.empty(len(self.classes), np.int64)
        rank[sorted(range(len(rank)), key=lambda label: self.classes[label])] = np.arange(len(rank))
        labels, contents = rank[self.labels], self.contents
        order = np.lexsort((labels, contents, splits))
        same = np.flatnonzero(
            (splits[order[1:]] == splits[order[:-1]])
            & (labels[order[1:]] == labels[order[:-1]])
            & (contents[order[1:]] == contents[order[:-1]])
        )
        for run in np.split(same, np.flatnonzero(np.diff(same) != 1) + 1):
            if len(run):
                members = slice(int(run[0]), int(run[-1]) + 2)
                order[members] = sorted(order[members].tolist(), key=self.name)
        return order

    def columns(
        self, order: NDArray[np.int64], splits: NDArray[np.int8]
    ) -> Mapping[str, NDArray[Any] | pa.Array]:
        """Those of the manifest; see :func:`graftline.data.shards.write_manifest`."""
        labels = self.labels[order]
        encoding = np.frombuffer(self._encoding, np.int8)[order]
        places = np.frombuffer(self._places, np.int64).reshape(-1, 3)
        numbers = {name: places[order, at] for at, name in enumerate(_PLACE)}
        numbers |= {name: self.shapes[order, at] for at, name in enumerate(_SHAPE)}
        return {
            "sha256": self.contents[order],
            "label": labels,
            "class": coded(labels, self.classes),
            "split": coded(splits[order], SPLITS),
            "source": texts(self._names, np.frombuffer(self._ends, np.int64), order),
            "encoding": coded(encoding, list(self._encodings)),
            **numbers,
        }
