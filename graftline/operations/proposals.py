"""Parameters for images that nobody has trained on yet: small rules over what the images are.

Each rule is a function of facts about the images, and gives values with the reason for them. They
are where to begin; what they come to is measured by the first run.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from graftline.core.errors import DataError
from graftline.core.files import scratch_folder
from graftline.core.params import DataParams
from graftline.core.params.data import TABLE_ENDINGS
from graftline.core.records import Split
from graftline.data.litter import is_litter
from graftline.data.sources import read
from graftline.data.sources.catalog import Broken, Catalog, from_files
from graftline.data.white_levels import Survey

_LOOKED_AT = 200
_SIDES_PX = (96, 128, 160, 192, 224)
"""The input sizes that MobileNetV2 was trained for."""
_ENOUGH_PX = 160
_SMALL_PX = 48
_MANY = 20_000
_FEW = 2_000
_FEW_OF_A_CLASS = 150
_UNEVEN = 3.0
_FEW_TESTED = 50


@dataclass(frozen=True)
class Look:
    """What a look at the images has shown.

    Args:
        data: The parameters that read them.
        counts: Images by class.
        given_splits: The splits that the source itself has.
        tested: About how many images the test split will have.
        looked_at: How many images were opened.
        sides_px: The shorter side of each.
        colour: Whether any of them has colours.
        broken: What is wrong with those that cannot be read.
        white: ``data.white_level`` and why, where images of more than 8 bits leave it open.
    """

    data: DataParams
    counts: Mapping[str, int]
    given_splits: frozenset[Split]
    tested: int
    looked_at: int
    sides_px: tuple[int, ...]
    colour: bool
    broken: tuple[str, ...]
    white: tuple[float, str] | None = None

    @property
    def total(self) -> int:
        """Images."""
        return sum(self.counts.values())

    @property
    def side_px(self) -> int:
        """The shorter side of the image in the middle."""
        return round(statistics.median(self.sides_px))

    def __str__(self) -> str:
        colours = "colour" if self.colour else "grey"
        low, high = min(self.sides_px), max(self.sides_px)
        sides = f"{low} px" if low == high else f"{low} to {high} px"
        splits = f", with splits of their own ({', '.join(sorted(self.given_splits))})"
        return (
            f"{self.total:,} {colours} images of {len(self.counts)} classes, shorter side {sides}"
            f"{splits if self.given_splits else ''}"
        )


@dataclass(frozen=True)
class Proposal:
    """A value for a key, and why."""

    key: str
    value: Any
    reason: str


def look_at(path: Path) -> Look:
    """Looks at the images of a folder, table or archive; opens some of them.

    Args:
        path: A folder of class folders, of IDX files or with a table; a table; a ``.npz``.

    Raises:
        DataError: If it is none of these, has fewer than two classes, or no image can be read.
    """
    data = _data(path)
    with scratch_folder() as scratch:
        catalog = read(data, path.parent, scratch)
        survey = Survey(None)
        samples = list(_samples(catalog, data, path, survey))
    broken = [one for one in samples if isinstance(one, Broken)]
    whole = [one for one in samples if not isinstance(one, Broken)]
    if not whole:
        raise DataError(
            f"none of {len(samples)} images that were looked at can be read: {broken[0].name} "
            f"{broken[0].reason}",
            where=str(path),
            fix="name the folder, table or .npz that holds the images",
        )
    if len(catalog.counts) < 2:
        raise DataError(
            f"the images are all of one class, {next(iter(catalog.counts))}, and a classifier "
            "tells classes apart",
            where=str(path),
            allowed="a folder for each class, or a table with their labels",
        )
    return Look(
        data=data,
        counts=catalog.counts,
        given_splits=catalog.given_splits,
        tested=_tested(catalog, data),
        looked_at=len(samples),
        sides_px=tuple(min(one.height, one.width) for one in whole),
        colour=any(one.channels == 3 for one in whole),
        broken=tuple(f"{one.name}: {one.reason}" for one in broken),
        white=survey.likely(),
    )


def proposals(look: Look, name: str) -> list[Proposal]:
    """What the parameters of a new project begin with.

    Args:
        look: Of its images.
        name: Of the project, which its model bears.
    """
    rules = (_sources, _size, _backbone, _head, _flip, _epochs, _batch, _weights_of_classes, _gate)
    found = [proposal for rule in rules for proposal in rule(look)]
    return [
        *found,
        Proposal("register.model_name", name, "a project is one task, and so is a name"),
    ]


def _data(path: Path) -> DataParams:
    at = str(path.absolute())
    if not path.exists():
        raise DataError(
            "there are no images here",
            where=at,
            allowed="a folder with a folder for each class, a folder of IDX files, a table "
            f"({', '.join(TABLE_ENDINGS)}) or a .npz",
        )
    if path.is_file():
        if path.suffix.lower() == ".npz":
            return DataParams(source="npz", path=at)
        if path.suffix.lower() in TABLE_ENDINGS:
            return DataParams(
                source="manifest", path=str(path.absolute().parent), manifest=path.name
            )
        raise DataError(
            f"{path.name} is no table and no .npz",
            where=at,
            allowed=f"a file whose name ends in {', '.join(TABLE_ENDINGS)} or .npz; or a folder",
        )
    entries = [entry for entry in sorted(path.iterdir()) if not is_litter(entry.name)]
    if any("idx3-ubyte" in entry.name.lower() for entry in entries):
        return DataParams(source="idx", path=at)
    tables = [entry for entry in entries if entry.suffix.lower() in TABLE_ENDINGS]
    folders = [entry for entry in entries if entry.is_dir()]
    named = [table for table in tables if table.stem.lower() == "manifest"]
    # Beside class folders a table may be anything; beside one folder of images it has the labels.
    if len(named) == 1 or (len(tables) == 1 and len(folders) < 2):
        return DataParams(source="manifest", path=at, manifest=(named or tables)[0].name)
    return DataParams(source="folder", path=at)


def _samples(catalog: Catalog, data: DataParams, path: Path, survey: Survey) -> Iterator[Any]:
    if not catalog.files:
        yield from islice(catalog.samples(survey), _LOOKED_AT)
        return
    step = -(-len(catalog.files) // _LOOKED_AT)
    root = Path(data.path or path).resolve()
    yield from from_files(catalog.files[::step], data.max_image_px, root).samples(survey)


def _tested(catalog: Catalog, data: DataParams) -> int:
    given = sum(file.split == "test" for file in catalog.files)
    return given or round(catalog.total * data.test_fraction)


def _sources(look: Look) -> Iterator[Proposal]:
    yield Proposal("data.source", look.data.source, f"{look}")
    yield Proposal("data.path", look.data.path, "")
    if look.data.source == "manifest":
        yield Proposal("data.manifest", look.data.manifest, "")
    if look.white is not None:
        yield Proposal("data.white_level", *look.white)
    if look.broken:
        yield Proposal(
            "data.on_corrupt",
            "fail",
            f"{len(look.broken)} of {look.looked_at} images that were looked at cannot be read; "
            "skip leaves such out",
        )


def _size(look: Look) -> Iterator[Proposal]:
    side = look.side_px
    if side <= _SMALL_PX:
        size = 64 if look.total >= _MANY else _SIDES_PX[0]
        why = f"the images are small ({side} px), and the network was made for larger ones"
        if size == 64:
            why += "; of so many, 64 px cost half as much and are as good"
    else:
        fitting = [one for one in _SIDES_PX if one <= min(side, _ENOUGH_PX)]
        size = fitting[-1] if fitting else _SIDES_PX[0]
        why = f"the shorter side is {side} px; more than {_ENOUGH_PX} costs more than it brings"
    yield Proposal("preprocess.size_px", size, why)


def _backbone(look: Look) -> Iterator[Proposal]:
    if look.colour:
        yield Proposal(
            "backbone.weights",
            "stanford-dogs",
            "at hand without a network; imagenet, which is fetched, knows more than dogs",
        )


def _head(look: Look) -> Iterator[Proposal]:
    smallest = min(look.counts.values())
    if smallest < _FEW_OF_A_CLASS:
        yield Proposal(
            "head.units", [], f"{smallest} images in the smallest class: too few for a hidden layer"
        )


def _flip(look: Look) -> Iterator[Proposal]:
    if look.colour:
        yield Proposal(
            "augment.flip",
            "horizontal",
            "photographs show the same when mirrored; none where left and right matter",
        )


def _epochs(look: Look) -> Iterator[Proposal]:
    if look.total < _FEW:
        yield Proposal("train.epochs", 30, f"{look.total:,} images make short epochs")


def _batch(look: Look) -> Iterator[Proposal]:
    if look.total >= _MANY:
        yield Proposal("train.batch_size", 128, f"{look.total:,} images: fewer, larger steps")
        yield Proposal("train.schedule", "cosine", "")


def _weights_of_classes(look: Look) -> Iterator[Proposal]:
    low, high = min(look.counts.values()), max(look.counts.values())
    if high > _UNEVEN * low:
        yield Proposal(
            "train.class_weights",
            "balanced",
            f"the largest class has {high:,} images, the smallest {low:,}",
        )


def _gate(look: Look) -> Iterator[Proposal]:
    chance = max(look.counts.values()) / look.total
    floor = round((1 + chance) / 2, 2)
    yield Proposal(
        "promote.min_accuracy",
        floor,
        f"half way from always naming the most frequent class ({chance:.0%}) to all right; raise "
        "it to what you need",
    )
    margin = round(-0.4 / look.tested**0.5, 3) if look.tested else -0.03
    yield Proposal(
        "promote.margin",
        max(margin, -0.05),
        f"about {look.tested:,} test images tell accuracies apart to this",
    )
    of_a_class = look.tested / len(look.counts)
    if of_a_class < _FEW_TESTED:
        yield Proposal(
            "promote.max_recall_drop", 0.15, f"about {of_a_class:.0f} test images for each class"
        )


def placed(look: Look, path: str) -> Look:
    """The same with another ``data.path``."""
    return replace(look, data=look.data.model_copy(update={"path": path}))
