from __future__ import annotations

import re
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from mlflow.utils.validation import _validate_metric

from graftline.registry.tracking.class_keys import class_keys

HOSTILE = [
    "_x",
    "<",
    "_x003C_",
    "x003C_",
    "/",
    "..",
    ".",
    " ",
    "a",
    "A",
    "é",
    "e\u0301",
    "con",
    "\0",
]
NAMES = st.one_of(
    st.text(max_size=40), st.lists(st.sampled_from(HOSTILE), max_size=12).map("".join)
)
_RESERVED = {
    "con",
    "prn",
    "aux",
    "nul",
    *(f"{port}{n}" for port in ("com", "lpt") for n in range(10)),
}


@pytest.mark.parametrize(
    "name",
    ["cat", "Golden Retriever", "n02123045", "3", "x-ray", "a_b", "v1.5", "Krähe", "猫", "_x"],
)
def test_ordinary_names_stay_as_they_are(name: str) -> None:
    assert class_keys([name, "other"])[name] == name


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("<30", "_x003C_30"),
        (">30", "_x003E_30"),
        ("a//b", "a_x002F__x002F_b"),
        (".", "_x002E_"),
        ("..", "_x002E__x002E_"),
        ("../../x", "_x002E_._x002F_.._x002F_x"),
        ("con", "_x0063_on"),
        ("a.", "a_x002E_"),
        (" a ", "_x0020_a_x0020_"),
        ("_x003C_30", "_x005F_x003C_30"),
        ("😀", "_x1F600_"),
    ],
)
def test_what_a_store_does_not_take_is_written_by_its_code(name: str, key: str) -> None:
    assert class_keys([name])[name] == key


def test_names_that_differ_by_case_or_accents_alone_get_a_digest_each() -> None:
    keys = class_keys(["cat", "Cat", "resume", "résumé", "dog"])
    assert keys["dog"] == "dog"
    # The first 16 digits of the SHA-256 of "cat".
    assert keys["cat"] == "cat_x77af778b51abd4a3_"
    assert len({key.casefold() for key in keys.values()}) == 5


def test_long_names_are_cut_and_told_apart() -> None:
    keys = class_keys(["é" * 255, "é" * 254 + "e"])
    assert len(set(keys.values())) == 2
    assert all(len(key.encode()) <= 200 and key.startswith("é" * 90) for key in keys.values())


def plain_on_a_caseless_file_system(key: str) -> str:
    return unicodedata.normalize("NFC", key).casefold()


@given(st.lists(NAMES, unique=True, min_size=2, max_size=8))
@example(["_x003C", "_x003C<", "<", "_x003C_"])
@example(["_<", "__x003C_"])
@example(["", "_x0000_", "\0"])
@example(["\ud800", "\udfff"])
def test_different_names_have_different_keys_that_every_store_takes(names: list[str]) -> None:
    keys = class_keys(names)

    assert len({plain_on_a_caseless_file_system(key) for key in keys.values()}) == len(names)
    for key in keys.values():
        for metric in (key, f"test_f1/{key}"):
            _validate_metric(metric, 0.5, 0, 0)
        # As a file's name, on any system.
        assert 0 < len(key.encode()) <= 200
        assert re.fullmatch(r"[\w. -]+", key)
        assert not key.startswith(" ") and not key.endswith((" ", "."))
        assert key.split(".")[0].casefold() not in _RESERVED
