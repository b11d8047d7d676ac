"""``graftline init``: what it proposes for which images, and what it will not touch."""

from __future__ import annotations

import csv
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from graftline.core.errors import DataError, ProjectError
from graftline.core.params import read_params
from graftline.operations.new_project import make_project
from graftline.operations.project_files import WRITTEN_FILE
from graftline.operations.proposals import look_at, proposals


def folder(root: Path, counts: dict[str, int], mode: str = "RGB", side_px: int = 200) -> Path:
    rng = np.random.default_rng(0)
    for label, count in counts.items():
        (root / label).mkdir(parents=True)
        for number in range(count):
            shape = (side_px, side_px + 30) + ((3,) if mode == "RGB" else ())
            pixels = rng.integers(0, 255, shape, dtype=np.uint8)
            Image.fromarray(pixels, mode).save(root / label / f"{number}.png")
    return root


def proposed(path: Path) -> dict[str, object]:
    return {one.key: one.value for one in proposals(look_at(path), "mine")}


def test_photographs_in_folders(tmp_path: Path) -> None:
    images = folder(tmp_path / "images", {"cat": 9, "dog": 2})
    made = make_project(tmp_path / "pets", images)
    params = read_params(tmp_path / "pets" / "params.yaml")
    assert (params.data.source, params.data.path) == ("folder", str(images))
    assert params.preprocess.size_px == 160
    assert params.augment.flip == "horizontal"
    assert params.head.units == ()
    assert params.train.class_weights == "balanced"
    assert params.register_.model_name == "pets"
    text = (tmp_path / "pets" / "params.yaml").read_text(encoding="utf-8")
    assert "  # 11 colour images of 2 classes, shorter side 200 px\n  source: folder  " in text
    assert "# mnist-5k, mnist, idx, npz, folder, manifest" in text
    assert made.look is not None and made.untracked is None


def test_grey_drawings_in_an_archive(tmp_path: Path) -> None:
    images = np.zeros((30, 28, 28), np.uint8)
    np.savez(tmp_path / "digits.npz", images=images, labels=np.arange(30) % 3)
    found = proposed(tmp_path / "digits.npz")
    assert found["data.source"] == "npz"
    assert found["preprocess.size_px"] == 96
    assert "augment.flip" not in found


@pytest.mark.parametrize(
    ("dtype", "largest", "level"),
    [
        (np.uint16, 3800, 4095),
        (np.uint16, 40_000, None),
        (np.float32, 0.3, 1),
        (np.float32, 9, 255),
    ],
)
def test_white_is_proposed_where_images_leave_it_open(
    tmp_path: Path, dtype: type, largest: float, level: float | None
) -> None:
    for label in "ab":
        (tmp_path / "images" / label).mkdir(parents=True)
        for number in range(3):
            pixels = np.array([[0, largest]]).astype(dtype)
            Image.fromarray(pixels).save(tmp_path / "images" / label / f"{number}.tiff")
    found = {one.key: one for one in proposals(look_at(tmp_path / "images"), "mine")}
    assert ("data.white_level" in found) == (level is not None)
    if level is not None:
        assert found["data.white_level"].value == level
        assert f"the largest value seen is {largest:g}" in found["data.white_level"].reason


def test_a_table_beside_its_images(tmp_path: Path) -> None:
    images = folder(tmp_path / "all", {"a": 2, "b": 2})
    with (tmp_path / "labels.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("path", "label"))
        rows.writerows(
            (one.relative_to(tmp_path), one.parent.name) for one in images.rglob("*.png")
        )
    found = proposed(tmp_path)
    assert (found["data.source"], found["data.manifest"]) == ("manifest", "labels.csv")
    assert found == proposed(tmp_path / "labels.csv")


def test_images_inside_the_project_move_with_it(tmp_path: Path) -> None:
    images = folder(tmp_path / "p" / "my images", {"a": 1, "b": 1})
    made = make_project(tmp_path / "p", images)
    assert read_params(tmp_path / "p" / "params.yaml").data.path == "my images"
    assert made.untracked == images
    said = subprocess.run(
        ["git", "status", "--short"], cwd=tmp_path / "p", check=True, capture_output=True, text=True
    )
    assert said.stdout == '?? "my images/"\n'


@pytest.mark.parametrize("place", ["no", "readme.txt", "empty"])
def test_what_holds_no_images_makes_no_project(tmp_path: Path, place: str) -> None:
    (tmp_path / "readme.txt").write_text("hello")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError):
        make_project(tmp_path / "p", tmp_path / place)
    assert not (tmp_path / "p").exists()


def test_one_class_is_no_classification(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="all of one class, cat"):
        look_at(folder(tmp_path / "images", {"cat": 2}))


def test_broken_images_are_told_of(tmp_path: Path) -> None:
    images = folder(tmp_path / "images", {"a": 2, "b": 2})
    (images / "a" / "x.png").write_bytes(b"no image")
    look = look_at(images)
    assert len(look.broken) == 1 and look.broken[0].startswith("a/x.png: ")


def test_what_is_there_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    mine = tmp_path / "p" / "README.md"
    mine.write_text("mine")
    with pytest.raises(ProjectError, match="with other contents: README.md"):
        make_project(tmp_path / "p", None)
    assert [path.name for path in (tmp_path / "p").iterdir()] == ["README.md"]
    mine.rename(tmp_path / "p" / "notes.md")
    make_project(tmp_path / "p", None)
    with pytest.raises(ProjectError, match="this is a project already"):
        make_project(tmp_path / "p", None)
    (tmp_path / "file").write_text("")
    with pytest.raises(ProjectError, match="this is a file"):
        make_project(tmp_path / "file", None)


def test_a_project_below_a_bigger_repository_is_committed_by_its_owner(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    (tmp_path / ".gitignore").write_text("/scratch/\n")
    made = make_project(tmp_path / "sub folder" / "p", None)
    assert made.repository == tmp_path
    assert not (made.root / ".git").exists()
    # What a repository ignores is none of its business.
    own = make_project(tmp_path / "scratch" / "p", None)
    assert own.repository is None
    assert (own.root / ".git").is_dir() and (own.root / WRITTEN_FILE).is_file()
