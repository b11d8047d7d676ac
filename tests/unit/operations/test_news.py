from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from graftline.core.params import Params, params_from_record
from graftline.core.workspace import Workspace
from graftline.data.fingerprint import SourceState
from graftline.operations.changes import News, last_finished, news_of, note_finished
from tests import finished

CHECKOUT = Path(__file__).resolve().parents[3]
SOURCE = SourceState({"a.png": "1", "b.png": "2"})


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    one = Workspace(tmp_path)
    finished.finish(one)
    shutil.copy(CHECKOUT / "dvc.yaml", tmp_path)
    note_finished(one, finished.some_params(), SOURCE)
    return one


def changed(section: str, **values: Any) -> Params:
    record = finished.some_params().model_dump(mode="json", by_alias=True)
    record[section] |= values
    return params_from_record(record, "here")


def news(
    workspace: Workspace,
    params: Params | None = None,
    source: SourceState = SOURCE,
    stale: tuple[str, ...] = (),
    forced: bool = False,
) -> News:
    return news_of(
        workspace, params or finished.some_params(), lambda: source, stale, forced=forced
    )


def test_after_a_finished_flow_there_is_nothing_new(workspace: Workspace) -> None:
    found = news(workspace)
    assert not found.anything
    assert str(found).startswith("nothing new")
    assert found.headline == "nothing new"


def test_where_no_flow_has_finished_one_has_to_run(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    finished.finish(workspace)
    assert last_finished(workspace) is None
    assert "no flow has got to its end" in str(news(workspace))


def test_new_images_are_counted(workspace: Workspace) -> None:
    found = news(workspace, source=SourceState({"a.png": "3", "c.png": "1", "d.png": "1"}))
    assert found.images == "images: 2 added, 1 changed, 1 removed"
    assert found.anything


def test_another_source_is_named(workspace: Workspace) -> None:
    record = finished.some_params().model_dump(mode="json", by_alias=True)
    record["data"] |= {"source": "folder", "path": "images"}
    found = news(workspace, params_from_record(record, "here"), SourceState({"a": "b"}))
    assert found.images == "images: another source, folder"
    assert "data.path: null → images" in found.params


def test_changed_parameters_are_news_where_a_step_reads_them(workspace: Workspace) -> None:
    assert news(workspace, finished.some_params(epochs=3)).params == ("train.epochs: 10 → 3",)
    for section, value, told in (
        ("export", {"formats": ["onnx"]}, 'export.formats: [] → ["onnx"]'),
        # Read by no stage, and by the steps that decide on what was trained.
        ("register", {"model_name": "other"}, "register.model_name: graftline → other"),
        ("promote", {"margin": -0.2}, "promote.margin: -0.01 → -0.2"),
    ):
        assert news(workspace, changed(section, **value)).params == (told,)


def test_what_no_step_of_a_training_reads_is_no_reason_to_train(workspace: Workspace) -> None:
    for section, value in (
        ("drift", {"threshold": 0.3, "significance": 0.05, "min_distance": 0.3}),
        ("notify", {"command": "true", "timeout_s": 3.0}),
    ):
        found = news(workspace, changed(section, **value))
        assert not found.anything, found


def test_a_stage_of_the_users_own_says_in_dvc_yaml_what_it_reads(workspace: Workspace) -> None:
    text = (workspace.root / "dvc.yaml").read_text(encoding="utf-8")
    stage = "stages:\n  mine:\n    cmd: 'true'\n    params: [drift.threshold, {other.yaml: [a]}]\n"
    (workspace.root / "dvc.yaml").write_text(text.replace("stages:\n", stage, 1))
    assert news(workspace, changed("drift", threshold=0.3, significance=0.05)).params == (
        "drift.threshold: 0.1 → 0.3",
    )


def test_a_model_that_a_killed_flow_left_unregistered_is_not_forgotten(
    workspace: Workspace,
) -> None:
    finished.train(workspace, "other weights")
    found = news(workspace)
    assert found.anything
    assert "has not gone through every step" in str(found)


def test_stale_stages_and_force_are_reasons(workspace: Workspace) -> None:
    found = news(workspace, stale=("evaluate", "train"), forced=True)
    assert str(found) == "stale: train, evaluate; forced"


def test_a_record_of_another_version_counts_as_none(workspace: Workspace) -> None:
    (workspace.var / "finished.json").write_text("{}")
    assert last_finished(workspace) is None
    assert news(workspace).anything


def test_many_changes_are_told_briefly(workspace: Workspace) -> None:
    params = finished.some_params(
        epochs=1, batch_size=8, learning_rate=0.5, schedule="cosine", label_smoothing=0.1, mixup=0.2
    )
    found = news(workspace, params)
    assert len(found.params) == 6
    assert str(found).endswith("; 1 more parameter")
