"""Figures: they say the finding, hold any classes, and repeat byte for byte."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from PIL import Image

from graftline.evaluation import plots, style
from graftline.evaluation.calibration import reliability

HISTORY = {
    "epoch": [1, 2, 3],
    "loss": [1.0, 0.5, 0.2],
    "accuracy": [0.5, 0.8, 0.95],
    "validation_loss": [0.9, 0.6, 0.7],
    "validation_accuracy": [0.6, 0.75, 0.7],
}


def texts(figure: Figure) -> str:
    return "\n".join(text.get_text() for text in figure.findobj(lambda a: hasattr(a, "get_text")))


def mistake(side_px: int = 28, channels: int = 1, **names: str) -> plots.Mistake:
    image = np.zeros((side_px, side_px // 2, channels), np.uint8)
    return plots.Mistake(
        image, **{"label": "seal", "predicted": "walrus", **names}, probability=0.9
    )


def matrix(counts: list[list[int]], **kwargs: object) -> Figure:
    names = [f"class {index}" for index in range(len(counts))]
    return plots.confusion_matrix(np.array(counts), names, (0.5, 0.9), **kwargs)  # type: ignore[arg-type]


def table() -> object:
    return reliability(np.array([0.95, 0.9, 0.3]), np.array([True, False, False]), 10)


FIGURES = {
    "learning_curves": lambda: plots.learning_curves(HISTORY, 2),
    "confusion_matrix": lambda: matrix([[5, 1], [0, 3]]),
    "reliability": lambda: plots.reliability_diagram(table()),
    "worst_mistakes": lambda: plots.worst_mistakes([mistake(), mistake(300, 3)], 2),
}


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_is_written_with_the_same_bytes_each_time(name: str, tmp_path: Path) -> None:
    written = []
    for path in (tmp_path / "once.png", tmp_path / "again.png"):
        style.save(FIGURES[name](), path)
        written.append(path.read_bytes())
    assert written[0] == written[1]
    with Image.open(tmp_path / "once.png") as image:
        assert image.format == "PNG"
        assert "Software" not in image.info
        width_in, height_in = FIGURES[name]().get_size_inches()
        assert image.size == pytest.approx((width_in * style.DPI, height_in * style.DPI), abs=1)
        assert len(set(image.convert("RGB").get_flattened_data())) > 20, "nothing was drawn"


def test_a_users_own_matplotlib_settings_change_nothing(tmp_path: Path) -> None:
    import matplotlib

    style.save(FIGURES["reliability"](), tmp_path / "plain.png")
    with matplotlib.rc_context({"axes.facecolor": "black", "font.size": 30, "savefig.dpi": 30}):
        style.save(FIGURES["reliability"](), tmp_path / "own.png")
    assert (tmp_path / "own.png").read_bytes() == (tmp_path / "plain.png").read_bytes()


def test_the_learning_curves_name_the_kept_epoch() -> None:
    said = texts(plots.learning_curves(HISTORY, 2))
    assert "Kept after epoch 2 of 3: 75.0 % of the validation images right" in said
    assert "epoch 2: 0.6" in said


@pytest.mark.parametrize("epochs", [1, 200])
def test_one_epoch_and_many_are_drawn(epochs: int, tmp_path: Path) -> None:
    history = {name: [values[0]] * epochs for name, values in HISTORY.items()}
    history["epoch"] = list(range(1, epochs + 1))
    style.save(plots.learning_curves(history, epochs), tmp_path / "curves.png")


def test_the_confusion_matrix_says_how_many_are_right_and_the_worst_confusion() -> None:
    said = texts(matrix([[90, 7, 3], [0, 100, 0], [0, 0, 1000]]))
    assert "99.2 % of 1\N{NARROW NO-BREAK SPACE}200 test images right (50.0 % to 90.0 %)" in said
    assert "Most often class 0 is taken for class 1: 7 of 100 images" in said


def test_the_confusion_matrix_without_mistakes_and_with_an_absent_class() -> None:
    said = texts(matrix([[9, 0], [0, 0]]))
    assert "100 % of 9" in said
    assert "No mistakes" in said
    assert "no image" in said


@pytest.mark.parametrize(
    "classes", [2, 12, *(pytest.param(many, marks=pytest.mark.slow) for many in (100, 300))]
)
def test_any_number_of_classes_with_long_names_fits_on_a_page(classes: int, tmp_path: Path) -> None:
    names = [f"a rather long name of a class of things {index}" for index in range(classes)]
    counts = np.eye(classes, dtype=int) + np.eye(classes, k=1, dtype=int)
    figure = plots.confusion_matrix(counts, names, (0.4, 0.6))
    style.save(figure, tmp_path / "matrix.png")
    with Image.open(tmp_path / "matrix.png") as image:
        assert max(image.size) < 2500
    # Names in neighbouring rows do not touch each other.
    axes = figure.axes[0]
    rows = [label.get_window_extent() for label in axes.get_yticklabels() if label.get_text()]
    assert len(rows) > 1
    for upper, lower in zip(rows, rows[1:], strict=False):
        assert upper.y0 >= lower.y1 - 1
    assert min(row.x0 for row in rows) >= 0, "a name is cut off at the left"


def test_the_gallery_shows_names_and_how_sure_the_model_was() -> None:
    said = texts(plots.worst_mistakes([mistake()], 7))
    assert "The 1 surest of 7 mistakes" in said
    for text in ("seal", "walrus", "90.0 %"):
        assert text in said


def test_a_gallery_with_nothing_to_show_says_so(tmp_path: Path) -> None:
    assert "No mistakes" in texts(plots.worst_mistakes([], 0))
    switched_off = plots.worst_mistakes([], 1200)
    assert "evaluate.worst_mistakes is 0" in texts(switched_off)
    style.save(switched_off, tmp_path / "empty.png")
    assert (tmp_path / "empty.png").stat().st_size > 1000


@pytest.mark.parametrize("name", ["$5 bill$", "熊猫", "a\nb", "{}", "\\frac", "_^%#&", "🐈"])
def test_a_class_may_have_any_name(name: str, tmp_path: Path) -> None:
    style.save(plots.worst_mistakes([mistake(label=name)], 1), tmp_path / "gallery.png")
    figure = plots.confusion_matrix(np.eye(2, dtype=int), [name, "other"], (0.2, 1))
    style.save(figure, tmp_path / "matrix.png")


@given(height=st.integers(1, 600), width=st.integers(1, 600), channels=st.sampled_from([1, 3]))
@settings(max_examples=30)
def test_a_thumbnail_is_small_and_keeps_its_channels(
    height: int, width: int, channels: int
) -> None:
    small = plots.thumbnail(np.full((height, width, channels), 7, np.uint8))
    assert max(small.shape[:2]) <= 224
    assert small.shape[2] == channels
    assert (small == 7).all()


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0, "0 %"),
        (1, "100 %"),
        (0.5, "50.0 %"),
        (0.99999, "> 99.9 %"),
        (0.00001, "< 0.1 %"),
        (0.976, "97.6 %"),
    ],
)
def test_a_share_reads_as_what_it_is(share: float, text: str) -> None:
    assert style.percent(share) == text


@given(st.text(), st.integers(3, 30))
def test_a_shortened_name_fits(name: str, length: int) -> None:
    short = style.shorten(name, length)
    assert len(short) <= length
    assert len(name) > length or short == " ".join(name.split())


@pytest.mark.parametrize(
    ("names", "shown"),
    [
        (["seven", "eight"], ["seven", "eight"]),
        (
            [f"product {number} of the spring catalogue" for number in ("00019", "00062")],
            ["product 00019…talogue", "product 00062…talogue"],
        ),
        # Two groups, each with an end of its own.
        (
            [
                f"part {number} of the {season} catalogue of spare parts"
                for number in ("000017", "000018")
                for season in ("spring", "winter")
            ],
            None,
        ),
        # Longer than there is room for, in the middle too.
        (
            [
                "x" * 30 + "a" + "y" * 40 + "b" + "z" * 30,
                "x" * 30 + "c" + "y" * 40 + "d" + "z" * 30,
            ],
            None,
        ),
    ],
)
def test_names_of_one_figure_are_told_apart(names: list[str], shown: list[str] | None) -> None:
    short = style.shorten_all(names, 22)
    assert len(set(short)) == len(names) and max(map(len, short)) <= 22
    if shown is not None:
        assert short == shown


@given(st.lists(st.text("ab ", max_size=40), max_size=6), st.integers(3, 30))
def test_shortened_names_of_one_figure_fit(names: list[str], length: int) -> None:
    short = style.shorten_all(names, length)
    assert all(len(one) <= length for one in short)
    assert [short[names.index(name)] for name in names] == short
