"""Which of the project's own stages a step waits for."""

from __future__ import annotations

from pathlib import Path

from graftline.core.stages import STAGES
from graftline.operations.own_stages import ordered, own_stages


def test_each_stands_before_the_first_step_that_needs_it() -> None:
    edges = [
        ("raw.dvc", "fetch"),
        ("fetch", "clean"),
        ("clean", "load"),
        ("fetch", "assemble"),
        ("load", "preprocess"),
        ("preprocess", "sub/dvc.yaml:sharpen@a"),
        ("sub/dvc.yaml:sharpen@a", "assemble"),
        ("load", "assemble"),
        ("export", "upload"),
    ]
    assert ordered(edges) == {"load": ("fetch", "clean"), "assemble": ("sub/dvc.yaml:sharpen@a",)}


def test_a_project_without_its_own_asks_nobody(tmp_path: Path) -> None:
    stages = "".join(f"  {name}: {{cmd: 'true'}}\n" for name in STAGES)
    (tmp_path / "dvc.yaml").write_text(f"stages:\n{stages}")
    # No repository of DVC's lies there, so asking would fail.
    assert own_stages(tmp_path, [*STAGES, "photos.dvc"]) == {}
