from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graftline.core.errors import DataError
from graftline.data.sources import manifest
from tests.unit.data.loading import encoded, pixels

MAX_PX = 1_000_000


@pytest.fixture
def root(tmp_path):
    folder = (tmp_path / "set").resolve()
    (folder / "img").mkdir(parents=True)
    for number in range(4):
        (folder / "img" / f"{number}.png").write_bytes(encoded(pixels(number)))
    return folder


def read(root, text, name="manifest.csv"):
    (root / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return manifest.catalog(root, name, MAX_PX)


def refused(root, text):
    with pytest.raises(DataError) as caught:
        read(root, text)
    return str(caught.value)


def entries(catalog):
    return [(one.name, one.label, one.split) for one in catalog.samples()]


def test_paths_and_labels(root):
    catalog = read(root, "path,label\nimg/1.png,cat\nimg/0.png,dog\n")
    assert catalog.total == 2
    assert catalog.given_splits == frozenset()
    assert entries(catalog) == [("img/1.png", "cat", None), ("img/0.png", "dog", None)]


def test_splits_in_any_spelling_and_other_columns(root):
    catalog = read(
        root,
        '\ufeffid,split,label ,path\n7,Train,"big, cat",img/0.png\n8,val,dog,img/1.png\n'
        "9, test,dog,img/2.png\n\n",
    )
    assert catalog.given_splits == {"train", "validation", "test"}
    assert entries(catalog) == [
        ("img/0.png", "big, cat", "train"),
        ("img/1.png", "dog", "validation"),
        ("img/2.png", "dog", "test"),
    ]


def test_parquet(root):
    table = pa.table(
        {"label": [3, 10], "path": ["img/0.png", "img/1.png"], "split": ["train", "test"]}
    )
    pq.write_table(table, root / "t.parquet")
    catalog = manifest.catalog(root, "t.parquet", MAX_PX)
    assert entries(catalog) == [("img/0.png", "3", "train"), ("img/1.png", "10", "test")]


def test_parquet_with_a_dictionary(root):
    table = pa.table(
        {"label": pa.array(["a", "b"]).dictionary_encode(), "path": ["img/0.png", "img/1.png"]}
    )
    pq.write_table(table, root / "t.parquet")
    assert manifest.catalog(root, "t.parquet", MAX_PX).labels == {"a", "b"}


def test_parquet_with_a_column_of_another_kind(root):
    pq.write_table(pa.table({"label": [0.5], "path": ["img/0.png"]}), root / "t.parquet")
    with pytest.raises(DataError, match="column label of t.parquet holds double"):
        manifest.catalog(root, "t.parquet", MAX_PX)


def test_parquet_with_a_missing_value(root):
    table = pa.table({"label": ["a", None], "path": ["img/0.png", "img/1.png"]})
    pq.write_table(table, root / "t.parquet")
    with pytest.raises(DataError, match=r"row 3: 'img/1\.png' has no label"):
        manifest.catalog(root, "t.parquet", MAX_PX)


def test_what_is_no_parquet(root):
    (root / "t.parquet").write_text("path,label\n")
    with pytest.raises(DataError, match=r"t\.parquet cannot be read as a table"):
        manifest.catalog(root, "t.parquet", MAX_PX)


def test_no_table(root):
    with pytest.raises(DataError) as caught:
        manifest.catalog(root, "manifest.csv", MAX_PX)
    assert "there is no table manifest.csv" in str(caught.value)
    assert "data.manifest" in str(caught.value)


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ("path,class", "misses column label; its columns are: path, class"),
        ("file,class", "misses column path and label"),
        ("path,label,path", "has path twice"),
        ("", "its columns are: none"),
    ],
)
def test_columns(root, header, words):
    assert words in refused(root, f"{header}\nimg/0.png,a,b\n")


def test_all_wrong_rows_are_named_at_once(root):
    text = refused(
        root,
        "path,label,split\n"
        "img/0.png,cat,train\n"
        "img/absent.png,cat,train\n"
        "img/1.png,,train\n"
        "img/2.png,dog,later\n"
        f"{root}/img/3.png,dog,train\n"
        "../outside.png,dog,train\n"
        ",dog,train\n",
    )
    assert "6 rows of manifest.csv cannot be used" in text
    assert "row 3: 'img/absent.png' is not there" in text
    assert "row 4: 'img/1.png' has no label" in text
    assert "row 5: 'img/2.png' has the split 'later', which is none" in text
    assert "is absolute" in text
    assert "row 7" in text and "leads out of the source" in text
    assert "row 8: '' is no path" in text


def test_a_long_list_of_wrong_rows_is_cut(root):
    text = refused(root, "path,label\n" + "absent.png,a\n" * 60)
    assert text.count("is not there") == 50
    assert "... and 10 more" in text


def test_a_link_that_leads_out_is_refused(root):
    (root.parent / "secret.png").write_bytes(encoded(pixels(9)))
    (root / "img" / "link.png").symlink_to(root.parent / "secret.png")
    assert "leads out of the source" in refused(root, "path,label\nimg/link.png,a\n")


def test_dots_that_stay_inside_are_fine(root):
    assert read(root, "path,label\nimg/../img/0.png,a\n").total == 1


def test_a_row_with_too_many_cells(root):
    text = refused(root, "path,label\nimg/0.png,big, cat\n")
    assert "line 2 of manifest.csv has 3 cells, and the header has 2" in text


def test_no_rows(root):
    assert "manifest.csv has no rows" in refused(root, "path,label\n")


def test_another_encoding(root):
    assert "cannot be read as a table" in refused(
        root, "path,label\nimg/0.png,café\n".encode("latin-1")
    )


def test_a_folder_is_no_image(root):
    [broken] = read(root, "path,label\nimg,a\n").samples()
    assert broken.reason == "is a folder"


@given(
    st.one_of(
        st.binary(max_size=200),
        st.text(max_size=100).map(lambda text: f"path,label\n{text}".encode()),
    )
)
def test_arbitrary_tables_are_read_or_refused(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("manifest").resolve()
    for name in ("t.csv", "t.parquet"):
        (folder / name).write_bytes(data)
        try:
            manifest.catalog(folder, name, MAX_PX)
        except DataError as error:
            assert error.where
