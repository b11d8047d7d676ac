"""What a stage read, what DVC wrote down and what the history tells are one and the same."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from graftline.core.errors import ParamsError
from graftline.core.params import Params, params_from_record, read_params
from graftline.core.stage_params import (
    params_as_used,
    picked,
    refuse_changed,
    refuse_recorded_otherwise,
)
from graftline.core.workspace import Workspace
from graftline.operations import stage_runner
from graftline.orchestration.overrides import plan_completion
from graftline.registry.tracking import run_contents
from tests import finished

CHECKOUT = Path(__file__).resolve().parents[3]
LOCK = """
schema: '2.0'
stages:
  load:
    cmd: python -m graftline load
    params:
      params.yaml:
        data: {source: mnist-5k, test_fraction: 0.3}
        seed: 7
"""


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    one = Workspace(tmp_path)
    finished.write_params(one)
    shutil.copy(CHECKOUT / "dvc.yaml", tmp_path)
    plan_completion(one).write(one)
    return one


def edit(workspace: Workspace, before: str, after: str) -> None:
    text = workspace.params_file.read_text(encoding="utf-8")
    assert before in text
    workspace.params_file.write_text(text.replace(before, after), encoding="utf-8")


def changed(**sections: dict[str, Any] | int) -> Params:
    record = finished.some_params().model_dump(mode="json", by_alias=True)
    for name, values in sections.items():
        record[name] = record[name] | values if isinstance(values, dict) else values
    return params_from_record(record, "here")


def test_sections_and_keys_are_picked() -> None:
    record = {"a": {"b": 1, "c": {"d": 2}}, "e": 3}
    assert picked(record, ["a", "a.b"]) == {"a": {"b": 1, "c": {"d": 2}}}
    assert picked(record, ["a.c", "e", "f", "e.g"]) == {"a.c": {"d": 2}, "e": 3}
    assert picked(record, ["a.b", ""]) == record


@pytest.fixture
def stage_that(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], None]], None]:
    """Has ``preprocess`` do something while it is at work, under DVC."""

    def set_up(act: Callable[[], None]) -> None:
        def step(*_: object) -> str:
            act()
            return "done"

        monkeypatch.setattr(stage_runner, "_imported", lambda *_: step)
        monkeypatch.setenv("DVC_STAGE", "preprocess")

    return set_up


def test_a_stage_whose_parameters_were_changed_meanwhile_is_not_written_down(
    workspace: Workspace, stage_that: Any
) -> None:
    # DVC would write down the new size beside images of the old one.
    stage_that(lambda: edit(workspace, "size_px: 32", "size_px: 64"))
    with pytest.raises(ParamsError) as caught:
        stage_runner.run_stage("preprocess", workspace)
    assert "preprocess.size_px: 32 → 64" in str(caught.value)
    assert "put the values back" in str(caught.value)


def test_what_a_stage_does_not_read_may_change_for_the_next_run(
    workspace: Workspace, stage_that: Any
) -> None:
    stage_that(lambda: edit(workspace, "seed: 7", "seed: 8"))
    assert stage_runner.run_stage("preprocess", workspace) == "done"


def test_a_stage_reads_what_stands_there_once_it_holds_the_pipeline(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Params] = []
    lock = stage_runner.pipeline_lock

    def edited_then_held(*arguments: Any) -> Any:
        edit(workspace, "size_px: 32", "size_px: 64")
        return lock(*arguments)

    monkeypatch.setattr(stage_runner, "pipeline_lock", edited_then_held)
    monkeypatch.setattr(stage_runner, "_imported", lambda *_: lambda _, params: seen.append(params))
    stage_runner.run_stage("preprocess", workspace)
    assert [params.preprocess.size_px for params in seen] == [64]


def test_a_run_refuses_what_was_changed_before_the_stage_could_read_it(
    workspace: Workspace,
) -> None:
    began = read_params(workspace.params_file)
    edit(workspace, "seed: 7", "seed: 8")
    refuse_changed(workspace, "preprocess", began)
    with pytest.raises(ParamsError, match="seed: 7 → 8"):
        refuse_changed(workspace, "train", began)


def test_the_lock_file_must_say_what_the_run_began_with(workspace: Workspace) -> None:
    (workspace.root / "dvc.lock").write_text(LOCK, encoding="utf-8")
    refuse_recorded_otherwise(workspace, "load", changed(data={"test_fraction": 0.3}))
    refuse_recorded_otherwise(workspace, "train", changed())
    with pytest.raises(ParamsError, match="data.test_fraction: 0.2 → 0.3"):
        refuse_recorded_otherwise(workspace, "load", changed())


def test_the_history_has_what_each_stage_was_run_with(workspace: Workspace) -> None:
    (workspace.root / "dvc.lock").write_text(LOCK, encoding="utf-8")
    # Edited after load had read it, and before train was told of the run.
    used = params_as_used(workspace, "train", changed(data={"test_fraction": 0.1}))
    assert used == changed(data={"test_fraction": 0.3})
    with pytest.raises(ParamsError, match="seed: 7 → 9"):
        params_as_used(workspace, "train", changed(seed=9))


def test_the_runs_own_file_is_that_of_its_beginning(workspace: Workspace, tmp_path: Path) -> None:
    began = read_params(workspace.params_file)
    assert run_contents.params_file(workspace, began, tmp_path) == workspace.params_file
    edit(workspace, "size_px: 32", "size_px: 64")
    (tmp_path / "of_the_run").mkdir()
    path = run_contents.params_file(workspace, began, tmp_path / "of_the_run")
    assert path.name == "params.yaml"
    assert read_params(path) == began
    assert json.loads(path.read_text())["preprocess"]["size_px"] == 32
