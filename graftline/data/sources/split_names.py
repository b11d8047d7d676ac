"""Which names mean a split: of folders, of cells in a table, of arrays and of IDX files."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from graftline.core.records import Split

# What the directories of public data sets are called, and what other readers take them for:
# "eval" and "evaluation" are the test split of Hugging Face's datasets, "trainval" is the training
# split of PASCAL VOC's makers where they leave validation to others.
WORDS: Mapping[Split, tuple[str, ...]] = {
    "train": ("train", "training", "trn", "trainval"),
    "validation": ("validation", "val", "valid", "validate", "validating", "dev", "devel")
    + ("development",),
    "test": ("test", "testing", "tst", "eval", "evaluate", "evaluation", "holdout"),
}
_SPLIT_OF: Mapping[str, Split] = {
    form: split for split, words in WORDS.items() for word in words for form in (word, f"{word}s")
}
# "train_images", "TestSet", "val2017", "01-train": what says nothing more of a split.
_NEUTRAL = frozenset(
    f"{word}{plural}"
    for word in (
        "set",
        "data",
        "dataset",
        "split",
        "image",
        "img",
        "pic",
        "photo",
        "sample",
        "file",
    )
    for plural in ("", "s")
) | {"v", "the"}
_GLUED = re.compile(
    f"({'|'.join(sorted(_SPLIT_OF, key=len, reverse=True))})(set|data|imgs?|images?)s?"
)
_TOKENS = re.compile(r"[^\W\d_]+")
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")


class SplitName(NamedTuple):
    """What a name says.

    Args:
        split: The split that it means.
        rest: Its other words; none where it can mean nothing else.
    """

    split: Split
    rest: tuple[str, ...] = ()


def split_named(name: str) -> SplitName | None:
    """The split that a name means, in any case, number and with words such as "set" or "images".

    Returns:
        None if it names no split, or two.
    """
    text = unicodedata.normalize("NFKC", name)
    words = [word.casefold() for word in _TOKENS.findall(_CAMEL.sub(" ", text))]
    found: list[Split] = []
    rest = []
    for word in words:
        if (glued := _GLUED.fullmatch(word)) is not None:
            word = glued[1]
        if word in _SPLIT_OF:
            found.append(_SPLIT_OF[word])
        elif word not in _NEUTRAL:
            rest.append(word)
    if found == ["train", "validation"]:
        found = ["train"]
    return SplitName(found[0], tuple(rest)) if len(found) == 1 else None


def splits_named(names: Iterable[str]) -> dict[str, Split]:
    """Those of the names that are splits' names when they stand side by side, each with its split.

    A name that holds further words is one of them only if another split has the same words, as
    ``seg_train`` and ``seg_test`` do: ``train_station`` beside ``bus_station`` is none.
    """
    read = {name: known for name in names if (known := split_named(name)) is not None}
    splits_of: dict[tuple[str, ...], set[Split]] = {}
    for known in read.values():
        splits_of.setdefault(known.rest, set()).add(known.split)
    return {
        name: known.split
        for name, known in read.items()
        if not known.rest or len(splits_of[known.rest]) > 1
    }


def allowed() -> str:
    """The names, for an error."""
    return "; ".join(f"{split}: {', '.join(words)}" for split, words in WORDS.items())
