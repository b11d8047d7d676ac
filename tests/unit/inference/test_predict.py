from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from PIL import Image
from rich.cells import cell_len

from graftline.cli.predict import show_predictions
from graftline.core.errors import DataError, MissingOutputError
from graftline.core.workspace import Workspace
from graftline.data.resize import shrink
from graftline.evaluation.predictor import Predictor
from graftline.inference.predict import Prediction, expanded, predict
from tests import finished

SHAPES = st.tuples(st.integers(1, 40), st.integers(1, 40), st.sampled_from([1, 3]))
IMAGES = st.lists(SHAPES.flatmap(lambda shape: arrays.arrays(np.uint8, shape)), max_size=12)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    workspace = Workspace(tmp_path_factory.mktemp("model"))
    finished.train(workspace)
    return workspace.trained


@pytest.fixture(scope="module")
def predictor(model: Path) -> Predictor:
    return Predictor(model)


@pytest.fixture
def workspace(tmp_path: Path, model: Path) -> Workspace:
    workspace = Workspace(tmp_path)
    shutil.copytree(model, workspace.trained)
    for name, value in (("night.png", 10), ("noon.jpg", 240)):
        Image.new("L", (28, 28), value).save(tmp_path / name)
    return workspace


def expected(image: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The model's answer, worked out by hand."""
    logit = (127.5 - shrink(image, finished.SIZE_PX).mean(dtype=np.float64)) / 16
    dark = 1 / (1 + np.exp(-2 * logit))
    return np.array([dark, 1 - dark])


@given(images=IMAGES)
def test_every_image_gets_its_own_answer_in_order(
    predictor: Predictor, images: list[NDArray[np.uint8]]
) -> None:
    found = predictor.probabilities(iter(images))

    assert found.shape == (len(images), 2)
    assert found.dtype == np.float32
    for row, image in zip(found, images, strict=True):
        np.testing.assert_allclose(row, expected(image), atol=2e-4)


def test_an_array_of_images_gives_the_same_as_each_alone(predictor: Predictor) -> None:
    images = np.random.default_rng(0).integers(0, 256, (300, 9, 9, 1), dtype=np.uint8)

    together = predictor.probabilities(images)
    alone = np.concatenate([predictor.probabilities([image]) for image in images[::50]])
    np.testing.assert_array_equal(together[::50], alone)


def test_grey_images_need_no_channel(predictor: Predictor) -> None:
    images = np.random.default_rng(0).integers(0, 256, (5, 8, 8), dtype=np.uint8)

    np.testing.assert_array_equal(
        predictor.probabilities(images), predictor.probabilities(images[..., np.newaxis])
    )


def test_images_are_read_as_they_are_needed(
    predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("graftline.evaluation.predictor._HELD_BYTES", 5_000)
    waiting, most = 0, 0

    def images() -> object:
        nonlocal waiting, most
        for side in range(200):
            waiting += 1
            most = max(most, waiting)
            yield np.full((1 + side % 30, 30, 1), side, np.uint8)

    run = predictor._runner.run

    def counted(batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        nonlocal waiting
        waiting -= len(batch)
        return run(batch)

    monkeypatch.setattr(predictor._runner, "run", counted)
    assert len(predictor.probabilities(images())) == 200
    assert waiting == 0
    assert most < 60


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((8, 8, 1), np.float32),
        np.zeros((8, 8, 2), np.uint8),
        np.zeros((8, 8, 4), np.uint8),
        np.zeros((1, 8, 8, 1), np.uint8),
        np.zeros(8, np.uint8),
        np.zeros((0, 8, 1), np.uint8),
    ],
)
def test_what_is_no_image_is_refused(predictor: Predictor, image: NDArray[np.uint8]) -> None:
    with pytest.raises(DataError, match="image 1"):
        predictor.probabilities([np.zeros((8, 8, 1), np.uint8), image])


def test_a_table_has_a_column_for_each_class(predictor: Predictor) -> None:
    table = predictor.table(np.array([[[0]], [[255]]], np.uint8))

    assert list(table.columns) == ["label", "probability", "p_dark", "p_bright"]
    assert list(table["label"]) == ["dark", "bright"]
    assert (table["probability"] == table[["p_dark", "p_bright"]].max(axis=1)).all()
    assert len(predictor.table([])) == 0


def test_files_get_labels_most_probable_first(workspace: Workspace) -> None:
    files = [workspace.root / "noon.jpg", workspace.root / "night.png"]
    noon, night = predict(files, workspace)

    assert (noon.file, noon.label) == (str(files[0]), "bright")
    assert list(noon.probabilities) == ["bright", "dark"]
    assert noon.probability == noon.probabilities["bright"] > 0.99
    assert night.label == "dark"


def test_one_bad_file_does_not_stop_the_others(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = workspace.root / "text.png"
    bad.write_text("this is no image")
    files = [str(workspace.root / name) for name in ("night.png", "text.png", "absent.png")]
    files.append(str(workspace.root / "noon.jpg"))

    code = show_predictions(workspace, files, as_json=True)
    told = capsys.readouterr()
    rows = [json.loads(line) for line in told.out.splitlines()]
    assert code == 2
    assert [row.get("label") for row in rows] == ["dark", None, None, "bright"]
    assert [row["file"] for row in rows] == files
    assert "no image of a known kind" in rows[1]["error"]
    assert rows[2]["error"].endswith("absent.png is not there")
    assert "2 of 4 files" in told.err


def test_json_names_every_class(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    assert show_predictions(workspace, [str(workspace.root / "night.png")], as_json=True) == 0

    (line,) = capsys.readouterr().out.splitlines()
    row = json.loads(line)
    assert set(row["probabilities"]) == {"dark", "bright"}
    assert row["probability"] == row["probabilities"][row["label"]]


def test_the_table_shows_labels_and_runners_up(
    workspace: Workspace, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    Image.new("L", (28, 28), 129).save(workspace.root / "dusk.png")
    assert show_predictions(workspace, [str(workspace.root / "dusk.png")], top=2) == 0
    with_others = capsys.readouterr().out
    assert show_predictions(workspace, [str(workspace.root / "dusk.png")], top=1) == 0
    alone = capsys.readouterr().out

    assert "bright" in with_others
    assert "dark 45.3%" in with_others
    assert "dark" not in alone


def test_folders_and_patterns_stand_for_their_images(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    below = workspace.root / "more" / "deep"
    below.mkdir(parents=True)
    (below / "A.PNG").touch()
    (below / "notes.txt").touch()
    monkeypatch.chdir(workspace.root)

    def found(*arguments: str) -> list[tuple[str, str | None]]:
        return [(one.name, one.error) for one in expanded(arguments)]

    assert found("more") == [("more/deep/A.PNG", None)]
    assert found("n*.*") == [("night.png", None), ("noon.jpg", None)]
    assert found(f"{workspace.root}/*.jpg") == [(f"{workspace.root}/noon.jpg", None)]
    assert found("absent*.png", "absent.png") == [
        ("absent*.png", "absent*.png is not there"),
        ("absent.png", "absent.png is not there"),
    ]


def test_an_empty_folder_is_said(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    (workspace.root / "empty").mkdir()

    assert show_predictions(workspace, [str(workspace.root / "empty")]) == 2
    assert "no images" in capsys.readouterr().err


def test_without_a_model_it_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(MissingOutputError) as caught:
        list(predict(["a.png"], Workspace(tmp_path)))

    assert "no model has been trained yet" in str(caught.value)
    assert "graftline run" in str(caught.value)


def test_another_model_folder_is_taken(workspace: Workspace, model: Path) -> None:
    shutil.rmtree(workspace.trained)

    (night,) = predict([workspace.root / "night.png"], workspace, model=model)
    assert night.label == "dark"


def test_a_name_with_brackets_is_shown_as_it_is(
    workspace: Workspace, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    odd = workspace.root / "[red]x[bold].png"
    Image.new("L", (28, 28), 10).save(odd)
    show_predictions(workspace, [str(odd)])

    assert "[red]x[bold].png" in capsys.readouterr().out


def test_a_long_path_is_cut_in_its_middle(
    workspace: Workspace, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    below = workspace.root / "very" / ("long" * 30)
    below.mkdir(parents=True)
    names = ["night.png", "\N{CJK UNIFIED IDEOGRAPH-591C}.png", "[b]x.png"]
    for name in names:
        Image.new("L", (28, 28), 10).save(below / name)
    show_predictions(workspace, [str(below)])

    _, *table = capsys.readouterr().out.splitlines()
    assert all(cell_len(row) <= 80 for row in table)
    shown = [row for row in table if "dark" in row]
    assert len(shown) == 3, "each file has one line"
    assert sorted(names) == sorted(name for name in names for row in shown if f"/{name} " in row)
    assert all("…" in row and row.startswith(f"│ {workspace.root}"[:8]) for row in shown)


def test_an_unreadable_file_is_no_prediction() -> None:
    broken = Prediction("x.png", {}, "the file is empty (0 bytes)")

    assert (broken.label, broken.probability) == (None, None)
    assert json.loads(broken.to_json()) == {"file": "x.png", "error": "the file is empty (0 bytes)"}


def test_predicting_imports_neither_tensorflow_nor_mlflow(
    workspace: Workspace, checkout: Path
) -> None:
    code = (
        "import sys; from graftline.cli.main import main; "
        f"code = main(['predict', '--json', '-C', {str(workspace.root)!r}, sys.argv[1]]); "
        "sys.exit(code or len({'tensorflow', 'mlflow', 'pandas'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(workspace.root / "night.png")],
        cwd=checkout,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["label"] == "dark"
