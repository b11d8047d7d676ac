"""What a kept result depends on: each file that has a part in it, and no other."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from graftline.core import code_state as module
from graftline.core.code_state import code_files, code_state

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the package's files, of which the state is then taken."""
    shutil.copytree(ROOT / "graftline", tmp_path / "graftline")
    monkeypatch.setattr(module, "__file__", str(tmp_path / "graftline" / "core" / "code_state.py"))
    return tmp_path / "graftline"


def of_training() -> dict[str, Any]:
    return code_state("graftline/steps/train.py", trains=False)


@pytest.mark.parametrize(
    "file",
    [
        "steps/train.py",
        "training/loop.py",
        "training/losses.py",
        "training/augment.py",
        "network/classifier.py",
    ],
)
def test_a_change_of_what_trains_counts(copied: Path, file: str) -> None:
    before = of_training()
    path = copied / file
    path.write_text(path.read_text() + "\n")
    assert of_training() != before


def test_other_ends_of_lines_do_not(copied: Path) -> None:
    before = of_training()
    for path in copied.rglob("*.py"):
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert of_training() == before


@pytest.mark.parametrize(
    "file",
    ["inference/serving/app.py", "steps/evaluate.py", "inference/drift/decision.py", "__main__.py"],
)
def test_a_change_of_anything_else_does_not(copied: Path, file: str) -> None:
    before = of_training()
    path = copied / file
    path.write_text(path.read_text() + "\n")
    assert of_training() == before


@pytest.mark.parametrize("package", ["numpy", "tensorflow", "keras", "scipy", "ai-edge-litert"])
def test_another_version_counts(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = of_training()
    real = module.importlib.metadata.version

    def version(name: str) -> str:
        return "0.0.1" if name == package else real(name)

    monkeypatch.setattr(module.importlib.metadata, "version", version)
    assert of_training() != before


def test_a_package_that_is_absent_has_no_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_DECIDING", ("no-such-package",))
    assert of_training()["packages"] == {"no-such-package": None}


def test_batch_predictions_depend_on_what_decodes_and_runs() -> None:
    files = code_files(ROOT, "graftline/inference/batch/writer.py")
    assert {
        "graftline/data/image_files.py",
        "graftline/data/decoding.py",
        "graftline/data/resize.py",
        "graftline/network/runners/litert.py",
        "graftline/inference/batch/writer.py",
    } <= set(files)
    assert "graftline/steps/train.py" not in files


def test_the_race_depends_on_what_trains_its_candidates() -> None:
    files = set(code_files(ROOT, "graftline/steps/freeze.py"))
    assert {"graftline/selection/successive_halving.py", "graftline/selection/trainer.py"} <= files
    assert {
        "graftline/training/loop.py",
        "graftline/training/losses.py",
        "graftline/network/batch_norm.py",
    } <= files
