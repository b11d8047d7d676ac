"""One list of formats and one limit: what trains can be predicted, through every door."""

from __future__ import annotations

from argparse import ArgumentParser
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from graftline.cli.predict import show_predictions
from graftline.core.errors import DataError
from graftline.core.workspace import Workspace
from graftline.data.decoding import begins_like_image, suffixes
from graftline.data.image_files import images_below, largest_px, told_left_out
from graftline.data.sources import folder
from graftline.inference.batch.writer import held, predict_files
from graftline.inference.model_choice import choose_model
from graftline.inference.predict import predict
from graftline.inference.serving import cli
from graftline.inference.serving.limits import Limits
from graftline.steps.load import load
from tests import finished
from tests.unit.data.loading import encoded, params, pixels

NAMES = ("a.jfif", "b.jpe", "c.JPG", "d.apng", "e.TIFF", "f.webp", "g.bmp", "h.gif", "i", "j.dat")
KINDS = ("JPEG", "JPEG", "JPEG", "PNG", "TIFF", "WEBP", "BMP", "GIF", "PNG", "JPEG")


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    made = Workspace(tmp_path / "checkout")
    finished.train(made)
    return made


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two classes with an image of each format, under the names that such images have."""
    for label in ("cat", "dog"):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for number, (name, kind) in enumerate(zip(NAMES, KINDS, strict=True)):
            seed = number + (100 if label == "dog" else 0)
            path = tmp_path / "photos" / label / name
            path.write_bytes(encoded(pixels(seed, (6, 8, 3)), kind))
    return tmp_path / "photos"


def limited(workspace: Workspace, params_text: str, max_px: int) -> None:
    changed = params_text.replace("max_image_px: 50000000", f"max_image_px: {max_px}")
    workspace.params_file.write_text(changed, encoding="utf-8")


def test_the_endings_are_those_that_pillow_knows() -> None:
    usual = {".png", ".jpg", ".jpeg", ".gif", ".bmp", ".webp", ".tif", ".tiff"}
    assert usual | {".jfif", ".jpe", ".apng", ".heic", ".avif"} <= set(suffixes())
    assert not {".pdf", ".txt", ".mp4"} & set(suffixes())


@pytest.mark.parametrize("kind", sorted(set(KINDS)))
def test_a_beginning_tells_an_image(kind: str) -> None:
    assert begins_like_image(encoded(pixels(1, (6, 8, 3)), kind)[:64])


@pytest.mark.parametrize("beginning", [b"", b"x", b"%PDF-1.7", b"path,label\n", b"\0" * 64])
def test_a_beginning_tells_what_is_none(beginning: bytes) -> None:
    assert not begins_like_image(beginning)


def test_what_trains_is_predicted(workspace: Workspace, photos: Path) -> None:
    trained = {one.path for one in folder.catalog(photos.resolve(), 1_000_000).files}
    dataset = load(workspace, params("folder", photos))
    assert dataset.total() == len(trained) == 2 * len(NAMES)

    predicted = list(predict([photos], workspace))
    assert {one.file for one in predicted} == trained
    assert all(one.error is None for one in predicted)

    out = workspace.root / "x.parquet"
    with held(workspace, out):
        model = choose_model(workspace, str(workspace.trained))
        batch = predict_files(model, [str(photos)], out)
    assert (batch.images, batch.unread, batch.left_out) == (20, 0, {})
    assert pq.read_table(out)["path"].to_pylist() == [one.file for one in predicted]


def test_what_is_no_image_is_left_out_and_counted(
    workspace: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mixed = tmp_path / "mixed"
    mixed.mkdir()
    (mixed / "a.jfif").write_bytes(encoded(pixels(1), "JPEG"))
    for name in ("notes.txt", "more.TXT", "film.mp4", "README"):
        (mixed / name).write_text("no image")
    (mixed / "Thumbs.db").write_text("litter")

    left_out: Counter[str] = Counter()
    assert list(images_below(str(mixed), left_out)) == [f"{mixed}/a.jfif"]
    assert left_out == {".txt": 2, ".mp4": 1, "no ending": 1}
    told = "4 files are no images (.txt 2, .mp4 1, no ending 1)"
    assert Counter(told_left_out(left_out).split()) == Counter(told.split())

    assert show_predictions(workspace, [str(mixed)], as_json=True) == 0
    assert "left out: 4 files are no images" in capsys.readouterr().err
    out = workspace.root / "x.parquet"
    with held(workspace, out):
        model = choose_model(workspace, str(workspace.trained))
        assert predict_files(model, [str(mixed)], out).left_out == left_out
        (mixed / "a.jfif").unlink()
        with pytest.raises(DataError, match=r"no images here: 4 files are no images"):
            predict_files(model, [str(mixed)], out)


def test_a_broken_image_is_not_left_out(tmp_path: Path) -> None:
    for name in ("empty.jfif", "text.heic"):
        (tmp_path / name).write_text("")
    (tmp_path / "nowhere.png").symlink_to(tmp_path / "absent.png")
    found = [Path(path).name for path in images_below(str(tmp_path))]
    assert found == ["empty.jfif", "nowhere.png", "text.heic"]


def test_one_limit_holds_for_every_door(
    workspace: Workspace, params_text: str, tmp_path: Path
) -> None:
    assert largest_px(workspace) == Limits().image_px == 50_000_000
    limited(workspace, params_text, 100)
    large = tmp_path / "large.png"
    Image.fromarray(np.zeros((10, 11), np.uint8)).save(large)
    told = "has 11 x 10 = 110 pixels, more than 100"

    (row,) = predict([large], workspace)
    assert str(row.error).startswith(told)
    options = ArgumentParser()
    cli.add_options(options)
    limits = cli._limits(workspace, options.parse_args([]))
    assert limits.image_px == 100
    assert cli._limits(workspace, options.parse_args(["--max-image-px", "7"])).image_px == 7
