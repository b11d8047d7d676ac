from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from graftline.core.errors import DataError
from graftline.data.image_files import read_image
from graftline.inference.batch.listing import write_listing
from graftline.inference.inputs import Input, inputs

ROWS = st.lists(
    st.builds(Input, st.text(), st.none() | st.binary(), st.none() | st.text(), st.integers(0, 9)),
    max_size=20,
)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    root = tmp_path / "photos"
    for name in ("b.png", "a/z.JPG", "a/y.png", "c.txt"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        if name.endswith("txt"):
            (root / name).write_text("no image")
        else:
            Image.new("L", (4, 4), 9).save(root / name)
    return root


def names(*arguments: str | Path) -> list[str]:
    return [row.name for row in inputs([str(one) for one in arguments])]


def test_a_folder_stands_for_its_images_in_order_of_their_names(photos: Path) -> None:
    assert names(photos) == [f"{photos}/{name}" for name in ("a/y.png", "a/z.JPG", "b.png")]


def test_patterns_and_files_are_taken_as_they_are(photos: Path) -> None:
    assert names(photos / "*.png", photos / "c.txt") == [f"{photos}/b.png", f"{photos}/c.txt"]
    assert names(photos / "**" / "*.png") == [f"{photos}/a/y.png", f"{photos}/b.png"]


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_table_is_not_trusted(photos: Path, tmp_path: Path, kind: str) -> None:
    (tmp_path / "secret.png").write_bytes(b"secret")
    (photos / "link.png").symlink_to(tmp_path / "secret.png")
    paths = ["b.png", "../secret.png", str(tmp_path / "secret.png"), "absent.png", "link.png"]
    table = photos / f"list.{kind}"
    if kind == "csv":
        table.write_text("id,path\n" + "".join(f"1,{path}\n" for path in paths))
    else:
        pq.write_table(pa.table({"path": paths}), table)

    rows = list(inputs([str(table)]))
    assert [row.name for row in rows] == paths
    assert rows[0].error is None and rows[0].size_bytes > 0
    for row, reason in zip(
        rows[1:], ["leads out", "absolute", "not there", "leads out"], strict=True
    ):
        assert row.file is None and reason in str(row.error)


def test_a_link_out_of_a_folder_is_a_row_with_its_reason(photos: Path, tmp_path: Path) -> None:
    Image.new("L", (4, 4)).save(tmp_path / "outside.png")
    (photos / "a" / "link.png").symlink_to(tmp_path / "outside.png")
    (photos / "loop").symlink_to(photos)

    (row,) = [row for row in inputs([str(photos)]) if row.error]
    assert row.name.endswith("a/link.png")
    assert "leads out of the source" in str(row.error)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="only Linux tells what was opened")
def test_a_link_put_there_after_the_listing_is_not_followed(photos: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside.png"
    Image.new("L", (4, 4)).save(outside)
    table = photos / "table.csv"
    table.write_text("path\nb.png\n", "utf-8")
    rows = [row for row in inputs([str(photos), str(table)]) if row.name.endswith("b.png")]
    assert len(rows) == 2
    (photos / "b.png").unlink()
    (photos / "b.png").symlink_to(outside)
    for row in rows:
        assert row.file is not None
        read = read_image(row.file, 1000, within=row.within)
        assert (read.pixels, read.sha256, read.error) == (None, None, "leads out of the source")


def test_names_that_are_no_text_are_written_as_text(photos: Path) -> None:
    odd = os.fsencode(photos) + b"/\xff.png"
    try:
        Path(os.fsdecode(odd)).write_bytes((photos / "b.png").read_bytes())
    except OSError:
        pytest.skip("this file system takes text only")
    (row,) = [row for row in inputs([str(photos)]) if row.file == odd]
    assert row.name.endswith("\\udcff.png")


@pytest.mark.parametrize("argument", ["absent.png", "absent/*.png"])
def test_an_argument_that_is_not_there_stops_before_anything_runs(
    photos: Path, argument: str
) -> None:
    with pytest.raises(DataError, match="absent"):
        names(photos / argument)


def test_a_table_without_paths_is_refused(photos: Path) -> None:
    (photos / "list.csv").write_text("file\nb.png\n")
    with pytest.raises(DataError, match="misses column path"):
        names(photos / "list.csv")


@given(rows=ROWS, part_rows=st.integers(1, 7))
def test_a_list_comes_back_part_by_part(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Input], part_rows: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "listing.parquet"
    listing = write_listing(iter(rows), path, part_rows)

    assert listing.count == len(rows)
    for part in range(listing.parts):
        found = list(listing.read([part]))
        assert found == rows[part * part_rows : (part + 1) * part_rows]
        assert len(found) == listing.size(part)
    assert write_listing(iter(rows), path, part_rows + 1).digest == listing.digest
