"""Parts, resuming and the final file, with a model whose answers can be worked out by hand."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from graftline.compute import Arrays, working_on
from graftline.core.errors import DataError, PipelineBusyError, UserError
from graftline.core.params import ComputeParams
from graftline.core.workspace import Workspace
from graftline.inference import predict as command
from graftline.inference.batch import writer as predicting
from graftline.inference.batch.writer import Batch, Work, Writing, held, predict_files, sample
from graftline.inference.model_choice import ChosenModel, choose_model
from tests import disks, finished

PART_ROWS = 16
CHECKOUT = Path(__file__).resolve().parents[4]


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    workspace = Workspace(tmp_path)
    finished.train(workspace)
    return workspace


@pytest.fixture
def model(workspace: Workspace) -> ChosenModel:
    return choose_model(workspace, str(workspace.trained))


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(50):
        shape = (9, 7) if number % 2 else (40, 50, 3)
        pixels = rng.integers(0, 256, shape, dtype=np.uint8)
        Image.fromarray(pixels // (1 + number % 3)).save(folder / f"{number:02d}.png")
    (folder / "07.png").write_bytes(b"no image")
    (folder / "20.png").write_bytes(b"")
    (folder / "33.png").unlink()
    os.mkfifo(folder / "33.png")
    return folder


def ran(workspace: Workspace, model: ChosenModel, images: Path, out: Path) -> Batch:
    with held(workspace, out):
        return predict_files(model, [str(images)], out, part_rows=PART_ROWS)


def test_every_file_gets_its_row(workspace: Workspace, model: ChosenModel, images: Path) -> None:
    out = workspace.root / "out" / "x.parquet"
    batch = ran(workspace, model, images, out)

    table = pq.read_table(out)
    assert table.schema.names == [
        *("path", "label", "probability", "p_dark", "p_bright"),
        *("model", "model_version", "sha256", "error"),
    ]
    rows = table.to_pylist()
    files = sorted(path for path in images.iterdir() if path.is_file())
    assert [row["path"] for row in rows] == [str(path) for path in files]
    said = {one.file: one for one in command.predict(files, workspace)}
    for row, file in zip(rows, files, strict=True):
        assert row["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
        assert row["model_version"] == finished.digest_of("first")
        expected = said[str(file)]
        assert (row["label"], row["probability"]) == (expected.label, expected.probability)
        assert row["error"] == expected.error
        if not expected.error:
            assert row["p_dark"] == expected.probabilities["dark"]
    broken = [row for row in rows if row["error"]]
    assert [Path(row["path"]).name for row in broken] == ["07.png", "20.png"]
    assert all(row["label"] is None and row["p_dark"] is None for row in broken)
    assert (batch.images, batch.unread, batch.resumed) == (49, 2, 0)
    assert sum(batch.labels.values()) == 47
    assert not Work(out).folder.exists()


def test_a_pipe_that_a_table_names_does_not_hang(
    workspace: Workspace, model: ChosenModel, images: Path
) -> None:
    (images / "list.csv").write_text("path\n33.png\n00.png\n.\n")
    out = workspace.root / "x.parquet"
    with held(workspace, out):
        predict_files(model, [str(images / "list.csv")], out)

    errors = pq.read_table(out)["error"].to_pylist()
    assert errors == ["is no regular file", None, "is a folder"]


def test_it_goes_on_with_the_next_part_and_ends_with_the_same_bytes(
    workspace: Workspace, model: ChosenModel, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = workspace.root / "undisturbed.parquet"
    ran(workspace, model, images, undisturbed)
    out = workspace.root / "x.parquet"
    written = predicting._write_part

    def failing(*given: Any) -> Arrays:
        if given[-1] == 2:
            raise KeyboardInterrupt
        return written(*given)

    monkeypatch.setattr(predicting, "_write_part", failing)
    with pytest.raises(KeyboardInterrupt):
        ran(workspace, model, images, out)
    assert not out.exists()
    # Two are under way at once.
    parts = [part.name for part in Work(out).parts()]
    assert parts[:2] == [Work(out).part(0).name, Work(out).part(1).name]
    assert Work(out).part(2).name not in parts
    monkeypatch.undo()

    batch = ran(workspace, model, images, out)
    # The last part has one row.
    assert batch.resumed == 2 * PART_ROWS + len(parts) - 2
    assert out.read_bytes() == undisturbed.read_bytes()


@pytest.mark.slow
def test_a_cluster_writes_the_same_bytes(
    workspace: Workspace, model: ChosenModel, images: Path
) -> None:
    undisturbed, out = workspace.root / "undisturbed.parquet", workspace.root / "x.parquet"
    ran(workspace, model, images, undisturbed)
    with working_on(workspace.root, ComputeParams(engine="dask", workers=2), "predict"):
        ran(workspace, model, images, out)
    assert out.read_bytes() == undisturbed.read_bytes()


def test_workers_compute_on_what_the_start_has_chosen(
    workspace: Workspace, model: ChosenModel, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The start stands in for a machine with a GPU."""
    opened_on: list[str] = []
    asked: list[tuple[str, dict[str, float]]] = []
    predictor, map_chunks = predicting.Predictor, predicting.map_chunks

    def opened(folder: Path, device: str = "cpu") -> Any:
        opened_on.append(device)
        return predictor(folder)

    def mapped(name: str, writing: Writing, parts: Any, **options: Any) -> Any:
        with writing.opened():
            asked.append((opened_on[-1], options["resources"]))
        return map_chunks(name, writing, parts, **options)

    monkeypatch.setattr(predicting, "settled_device", lambda _: "gpu")
    monkeypatch.setattr(predicting, "computing_of", lambda *_: "what a GPU computes in")
    monkeypatch.setattr(predicting, "Predictor", opened)
    monkeypatch.setattr(predicting, "map_chunks", mapped)
    ran(workspace, model, images, workspace.root / "x.parquet")
    assert opened_on == ["gpu", "gpu"]
    assert asked == [("gpu", {"GPU": 1})]


def test_a_full_disk_is_told_and_what_is_written_is_kept(
    workspace: Workspace, model: ChosenModel, images: Path
) -> None:
    undisturbed = workspace.root / "undisturbed.parquet"
    ran(workspace, model, images, undisturbed)
    left_bytes, parts = 0, []
    with disks.mounted(workspace.root / "out", "size=1m") as folder:
        out = folder / "x.parquet"
        out.write_bytes(b"earlier ones")
        batch = None
        while batch is None:
            with disks.filled(folder, left_bytes):
                try:
                    batch = ran(workspace, model, images, out)
                except UserError as error:
                    assert "no space" in error.what.lower()
                    assert out.read_bytes() == b"earlier ones"
                    assert not [one for one in folder.rglob("*") if one.suffix == ".tmp"]
            parts.append(len(Work(out).parts()))
            left_bytes += 12288
        assert out.read_bytes() == undisturbed.read_bytes()
    # Full at the beginning, and then wherever a part, or all of them together, had to be written.
    assert parts == [*sorted(parts[:-1]), 0]
    assert parts[0] == 0 < parts[-2]
    assert batch.resumed >= 2 * PART_ROWS


def test_parts_of_other_files_are_not_taken_up(
    workspace: Workspace, model: ChosenModel, images: Path
) -> None:
    out = workspace.root / "x.parquet"
    work = Work(out)
    work.folder.mkdir()
    predict_files(model, [str(images)], out, part_rows=PART_ROWS)
    before = out.read_bytes()
    assert predict_files(model, [str(images)], out, part_rows=PART_ROWS).resumed == 49

    Image.new("L", (5, 5), 200).save(images / "07.png")
    again = predict_files(model, [str(images)], out, part_rows=PART_ROWS)
    assert (again.resumed, again.unread) == (0, 1)
    assert out.read_bytes() != before
    other = model.model_copy(update={"version": "8"})
    assert predict_files(other, [str(images)], out, part_rows=PART_ROWS).resumed == 0


def test_what_a_model_without_features_leaves_is_no_sample(
    workspace: Workspace, model: ChosenModel, images: Path
) -> None:
    out = workspace.root / "x.parquet"
    with held(workspace, out):
        predict_files(model, [str(images)], out)
        assert sample(out, finished.CLASSES) is None


def test_two_at_once_cannot_write_the_same_file(workspace: Workspace) -> None:
    out = workspace.root / "x.parquet"
    with (
        held(workspace, out),
        pytest.raises(PipelineBusyError, match=r"x\.parquet is held"),
        held(workspace, out),
    ):
        raise AssertionError("both hold it")


def test_what_cannot_be_is_refused(workspace: Workspace, model: ChosenModel, images: Path) -> None:
    (workspace.root / "empty").mkdir()
    with pytest.raises(DataError, match="no images here"):
        ran(workspace, model, workspace.root / "empty", workspace.root / "x.parquet")
    table = images / "list.parquet"
    with pytest.raises(UserError, match="would replace"):
        ran(workspace, model, table, table)
    (workspace.root / "file").write_text("")
    with (
        pytest.raises(UserError, match="nothing can be written"),
        held(workspace, workspace.root / "file" / "x.parquet"),
    ):
        raise AssertionError("it was held")


KILLED = """
import sys
from pathlib import Path
from graftline.inference.batch.writer import held, predict_files
from graftline.inference.model_choice import choose_model
from graftline.core.workspace import Workspace
workspace = Workspace(Path(sys.argv[1]))
model = choose_model(workspace, str(workspace.trained))
out = workspace.root / "x.parquet"
with held(workspace, out):
    predict_files(model, [str(workspace.root / "images")], out, part_rows=4)
"""


@pytest.mark.kill
@pytest.mark.slow
def test_killed_at_any_moment_it_ends_with_the_same_bytes(
    workspace: Workspace, model: ChosenModel, images: Path
) -> None:
    undisturbed = workspace.root / "undisturbed.parquet"
    with held(workspace, undisturbed):
        predict_files(model, [str(images)], undisturbed, part_rows=4)
    out, rng = workspace.root / "x.parquet", np.random.default_rng(0)
    for kill in range(8):
        child = subprocess.Popen([sys.executable, "-c", KILLED, str(workspace.root)], cwd=CHECKOUT)
        until = time.monotonic() + 120
        while len(Work(out).parts()) <= kill and child.poll() is None:
            assert time.monotonic() < until
            time.sleep(0.002)
        time.sleep(rng.uniform(0, 0.01))
        child.send_signal(signal.SIGKILL)
        child.wait()
        assert not out.exists() or out.read_bytes() == undisturbed.read_bytes()
    subprocess.run([sys.executable, "-c", KILLED, str(workspace.root)], cwd=CHECKOUT, check=True)
    assert out.read_bytes() == undisturbed.read_bytes()
    assert not Work(out).folder.exists()
    assert list(workspace.root.glob(".*.tmp")) == []


def test_memory_does_not_grow_with_the_number_of_files(
    workspace: Workspace, model: ChosenModel, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many images are decoded and not yet predicted at 600 files as at 150."""
    monkeypatch.setattr("graftline.evaluation.predictor._GROUP_IMAGES", 8)
    monkeypatch.setattr(predicting, "_CHUNK_FILES", 8)
    most = []
    for count in (150, 600):
        table = images / "list.csv"
        table.write_text("path\n" + "00.png\n01.png\n" * (count // 2))
        waiting, peak = 0, 0
        read, batches = predicting._read, predicting.Predictor._batches

        def counted(*arguments: object, read: object = read) -> object:
            nonlocal waiting, peak
            waiting += 1
            peak = max(peak, waiting)
            return read(*arguments)

        def taken(self: object, given: object, batches: object = batches) -> object:
            nonlocal waiting
            for places, group in batches(self, given):
                waiting -= len(places)
                yield places, group

        with monkeypatch.context() as patch:
            patch.setattr(predicting, "_read", counted)
            patch.setattr(predicting.Predictor, "_batches", taken)
            out = workspace.root / "x.parquet"
            with held(workspace, out):
                predict_files(model, [str(table)], out, part_rows=64)
        assert waiting == 0
        most.append(peak)
    # Sixteen threads' chunks of 8, and one group of 8: 600 files are never waiting.
    assert max(most) < 160
