"""A file's digest is that of its bytes, in whatever order somebody else reads them."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given
from hypothesis import strategies as st

from graftline.data.seen import WholeFiles

READS = st.lists(st.tuples(st.integers(0, 300), st.integers(-1, 120)), max_size=12)


@given(st.binary(max_size=256), READS)
def test_the_digest_is_that_of_the_whole_file(data: bytes, reads: list[tuple[int, int]]) -> None:
    whole = WholeFiles()
    with TemporaryDirectory() as folder:
        path = Path(folder, "file")
        path.write_bytes(data)
        with path.open("rb") as file, whole.digesting(path, file) as read:
            for at, size in reads:
                read.seek(at)
                end = None if size < 0 else at + size
                assert read.read(size) == data[at:end]
            read.seek(0, os.SEEK_END)
            assert read.tell() == len(data)
    stamp, digest = whole.seen[str(path)]
    assert digest.decode() == hashlib.sha256(data).hexdigest()
    assert stamp.size == len(data)
