"""Tables as spreadsheets and other systems write them, at training and at prediction."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graftline.core.errors import DataError
from graftline.data.sources import manifest
from graftline.data.sources.tables import cells
from graftline.inference.inputs import inputs
from tests.unit.data.loading import encoded, pixels

MAX_PX = 1_000_000
ROWS = [("img/0.png", "big, cat", "train"), ("img/1.png", "dog; small", "test")]
TEXT = (
    'path{0}label{0}split\nimg/0.png{0}"big, cat"{0}Training\nimg/1.png{0}"dog; small"{0}Testing\n'
)


@pytest.fixture
def root(tmp_path):
    folder = (tmp_path / "set").resolve()
    (folder / "img").mkdir(parents=True)
    for number in range(2):
        (folder / "img" / f"{number}.png").write_bytes(encoded(pixels(number)))
    return folder


def entries(root, name="manifest.csv"):
    return [(one.name, one.label, one.split) for one in manifest.catalog(root, name, MAX_PX).files]


def refused(root, text):
    (root / "manifest.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DataError) as caught:
        entries(root)
    return str(caught.value)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("told", ["", "sep={0}\n", '"sep={0}"\n'])
def test_what_parts_the_cells_and_how_text_is_written(root, delimiter, encoding, end, told):
    text = (told + TEXT).format(delimiter).replace("\n", end)
    for name in ("manifest.csv", "T.TSV"):
        (root / name).write_bytes(text.encode(encoding))
        assert entries(root, name) == ROWS
    assert [row.error for row in inputs([str(root / "T.TSV")])] == [None, None]


def test_lines_that_a_spreadsheet_left_are_empty(root):
    (root / "manifest.csv").write_text("path;label;;\nimg/0.png;cat;;\n;;;\nimg/1.png;dog;;\n;;;\n")
    assert [row[:2] for row in entries(root)] == [("img/0.png", "cat"), ("img/1.png", "dog")]


def test_rows_are_counted_as_an_editor_does(root):
    text = refused(root, 'sep=;\npath;label\n\nimg/0.png;"cat"\nimg/9.png;dog\n')
    assert "row 5: 'img/9.png' is not there" in text


def test_a_cell_too_many_tells_what_parts_them(root):
    text = refused(root, "path;label\nimg/0.png;cat;dog\n")
    assert "line 2 of manifest.csv has 3 cells, and the header has 2" in text
    assert "cells parted by ';'" in text and 'into quotes: "a;b"' in text


def test_a_table_of_one_column_is_parted_by_commas(root):
    (root / "odd;name.png").write_bytes(encoded(pixels(5)))
    (root / "list.csv").write_text("path\nodd;name.png\n")
    assert [(row.name, row.error) for row in inputs([str(root / "list.csv")])] == [
        ("odd;name.png", None)
    ]


@pytest.mark.skipif(shutil.which("iconv") is None, reason="the remedy is a program")
def test_the_remedy_for_another_encoding_helps(root):
    text = refused(root, "path;label\nimg/0.png;café\nimg/1.png;thé\n".encode("cp1252"))
    command = next(line for line in text.splitlines() if "iconv" in line).partition(": iconv")[2]
    subprocess.run(f"iconv{command}", shell=True, check=True, cwd=root)
    assert [row[1] for row in entries(root, "utf8.csv")] == ["café", "thé"]


def test_paths_of_windows_are_found(root):
    (root / "manifest.csv").write_text("path;label\nimg\\0.png;cat\n.\\img\\1.png;dog\n")
    assert [row[:2] for row in entries(root)] == [("img/0.png", "cat"), ("img/1.png", "dog")]
    found = list(inputs([str(root / "manifest.csv")]))
    assert [(row.name, row.file) for row in found] == [
        ("img\\0.png", os.fsencode(root / "img" / "0.png")),
        (".\\img\\1.png", os.fsencode(root / "img" / "1.png")),
    ]


def test_a_name_that_holds_a_backslash_comes_first(root):
    (root / "img\\0.png").write_bytes(encoded(pixels(7)))
    (root / "manifest.csv").write_text("path,label\nimg\\0.png,cat\n")
    assert manifest.catalog(root, "manifest.csv", MAX_PX).files[0].path == str(root / "img\\0.png")


@pytest.mark.parametrize("path", ["C:\\img\\0.png", "\\\\server\\img\\0.png", "D:/img/0.png"])
def test_absolute_paths_of_windows_are_said_to_be(root, path):
    assert "is absolute, and of Windows" in refused(root, f"path,label\n{path},cat\n")


def test_a_path_of_windows_does_not_lead_out(root):
    (root.parent / "secret.png").write_bytes(encoded(pixels(9)))
    assert "leads out of the source" in refused(root, "path,label\n..\\secret.png,cat\n")


@pytest.mark.parametrize(("written", "lies"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_names_in_another_normalisation_are_found(root, written, lies):
    import unicodedata

    name = "caf\u00e9/\u00fcber \u1e69.png"
    there = root / unicodedata.normalize(lies, name)
    there.parent.mkdir()
    there.write_bytes(encoded(pixels(3)))
    (root / "manifest.csv").write_text(
        f"path,label\n{unicodedata.normalize(written, name)},cat\n", encoding="utf-8"
    )
    (found,) = manifest.catalog(root, "manifest.csv", MAX_PX).files
    assert (found.path, found.name) == (str(there), name)
    assert [row.file for row in inputs([str(root / "manifest.csv")])] == [os.fsencode(there)]


def test_two_names_that_differ_in_their_normalisation_alone(root):
    for name in ("\u1e69.png", "s\u0323\u0307.png"):
        (root / name).write_bytes(encoded(pixels(3)))
    # Neither of the two: the marks stand in another order.
    text = refused(root, "path,label\ns\u0307\u0323.png,cat\n")
    assert "differ in their normalisation alone" in text


@pytest.mark.parametrize("name", ["train", "Training", "TRAIN", " trn ", "train_set", "trains"])
def test_the_column_split_takes_the_names_of_folders(root, name):
    (root / "manifest.csv").write_text(f"path,label,split\nimg/0.png,cat,{name}\n")
    assert entries(root) == [("img/0.png", "cat", "train")]


def test_two_meanings_of_one_split_are_in_doubt(root):
    text = refused(root, "path,label,split\nimg/0.png,cat,eval\nimg/1.png,cat,test\n")
    assert "holds 'eval' and 'test', which are both test" in text


@given(
    rows=st.lists(st.tuples(st.text(), st.text(min_size=1)), max_size=8),
    delimiter=st.sampled_from(",;\t|"),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
)
def test_every_table_that_is_written_comes_back(tmp_path_factory, rows, delimiter, encoding):
    import csv

    rows = [
        tuple(text.encode("utf-8", "ignore").decode() for text in row)
        for row in rows
        if all(text.encode("utf-8", "ignore") for text in row)
    ]
    table = tmp_path_factory.mktemp("tables") / "t.csv"
    with table.open("w", encoding=encoding, newline="") as file:
        writer = csv.writer(file, delimiter=delimiter, quoting=csv.QUOTE_ALL)
        writer.writerows([("path", "label"), *rows])
    assert [row for _, row in cells(table, ("path", "label"))] == rows
