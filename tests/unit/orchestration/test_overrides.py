from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graftline.core.errors import DataError, ParamsError
from graftline.core.params import read_params
from graftline.core.workspace import Workspace
from graftline.orchestration.overrides import Change, overrides_to, plan_overrides


@pytest.fixture
def workspace(tmp_path: Path, params_text: str) -> Workspace:
    made = Workspace(tmp_path)
    made.params_file.write_text(params_text)
    return made


def test_nothing_asked_changes_nothing(workspace: Workspace) -> None:
    change = plan_overrides(workspace, None, [])
    assert change == Change(read_params(workspace.params_file), None)
    assert change.write(workspace) is None


def test_a_value_changes_and_every_other_line_stays(workspace: Workspace) -> None:
    before = workspace.params_file.read_text().splitlines()
    change = plan_overrides(workspace, None, ["train.epochs=3", "head.units=[64, 32]"])
    assert workspace.params_file.read_text().splitlines() == before
    kept = change.write(workspace)
    assert kept is not None
    assert kept.read_text().splitlines() == before
    after = workspace.params_file.read_text().splitlines()
    assert [(old, new) for old, new in zip(before, after, strict=True) if old != new] == [
        ("  units: [256]", "  units: [64, 32]"),
        ("  epochs: 10", "  epochs: 3"),
    ]
    assert read_params(workspace.params_file) == change.params


def test_the_same_value_again_leaves_the_file_alone(workspace: Workspace) -> None:
    assert plan_overrides(workspace, None, ["train.epochs=10"]).write(workspace) is None
    assert not workspace.var.exists()


def test_one_wrong_value_writes_none(workspace: Workspace) -> None:
    with pytest.raises(ParamsError, match="train.epoch: unknown key"):
        plan_overrides(workspace, None, ["train.batch_size=64", "train.epoch=3"])


def test_a_file_takes_the_place_word_for_word(workspace: Workspace, params_text: str) -> None:
    other = workspace.root / "other.yaml"
    other.write_text(params_text.replace("size_px: 96", "size_px: 64"), encoding="utf-8")
    plan_overrides(workspace, other, []).write(workspace)
    assert workspace.params_file.read_bytes() == other.read_bytes()


def test_an_absent_file_is_named(workspace: Workspace) -> None:
    with pytest.raises(ParamsError) as caught:
        plan_overrides(workspace, Path("no.yaml"), [])
    assert caught.value.where == "no.yaml"


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("freeze.strategy=last_blocks: 2", "  strategy: {last_blocks: 2}"),
        ("train.early_stopping_patience=null", "  early_stopping_patience: null"),
        ("train.learning_rate=1e-3", "  learning_rate: 0.001"),
    ],
)
def test_values_are_written_as_people_write_them(
    workspace: Workspace, override: str, line: str
) -> None:
    change = plan_overrides(workspace, None, ["train.epochs=3", override])
    assert change.text is not None
    assert any(one.startswith(line) for one in change.text.splitlines())


@given(
    seed=st.integers(0, 2**31 - 1),
    rate=st.floats(1e-8, 10, allow_nan=False),
    units=st.lists(st.integers(1, 9999), max_size=4),
)
def test_what_is_written_is_what_was_checked(
    params_text: str,
    tmp_path_factory: pytest.TempPathFactory,
    seed: int,
    rate: float,
    units: object,
) -> None:
    workspace = Workspace(tmp_path_factory.mktemp("any"))
    workspace.params_file.write_text(params_text)
    change = plan_overrides(
        workspace, None, [f"seed={seed}", f"train.learning_rate={rate!r}", f"head.units={units}"]
    )
    change.write(workspace)
    assert read_params(workspace.params_file) == change.params
    assert change.params.train.learning_rate == rate


def test_a_source_that_is_not_there_is_refused_before_anything_is_written(
    workspace: Workspace,
) -> None:
    before = workspace.params_file.read_bytes()
    overrides = ["data.source=folder", "data.path=/nowhere/at/all"]
    with pytest.raises(DataError, match="/nowhere/at/all") as caught:
        plan_overrides(workspace, None, overrides)
    assert caught.value.exit_code == 2
    assert workspace.params_file.read_bytes() == before


def test_sections_that_are_left_out_are_written_with_their_defaults(workspace: Workspace) -> None:
    # DVC refuses a stage whose parameters are not all there.
    whole = workspace.params_file.read_text(encoding="utf-8")
    until = whole.index("\naugment:")
    after = whole.index("\ntrain:")
    workspace.params_file.write_text(whole[:until] + whole[after:], encoding="utf-8")
    change = plan_overrides(workspace, None, [])
    assert change.write(workspace) is not None
    written = workspace.params_file.read_text(encoding="utf-8")
    assert written.startswith(whole[:until])
    assert "augment:\n  flip: none\n" in written
    assert read_params(workspace.params_file) == change.params
    assert plan_overrides(workspace, None, []).text is None


def test_what_will_change_is_told_key_by_key(workspace: Workspace) -> None:
    change = plan_overrides(workspace, None, ["train.epochs=3", "head.units=[8]"])
    assert change.told(workspace) == ["head.units: [256] → [8]", "train.epochs: 10 → 3"]
    change.write(workspace)
    assert change.told(workspace) == []


@pytest.mark.parametrize(
    "override",
    [
        *("seed=7", "train.ema=0.99", "head.units=[64, 32]", "freeze.strategy=last_blocks: 2"),
        *("backbone.cut=null", "register.model_name=1e3", "freeze.budget=off"),
        "export.min_agreement.onnx=0.9",
    ],
)
def test_parameters_are_what_their_overrides_make(workspace: Workspace, override: str) -> None:
    wanted = plan_overrides(workspace, None, [override, "train.epochs=3"]).params
    assert plan_overrides(workspace, None, overrides_to(wanted, workspace)).params == wanted
    assert overrides_to(read_params(workspace.params_file), workspace) == []


def test_another_backbone_is_cut_after_its_usual_layer_unless_it_is_said(
    workspace: Workspace,
) -> None:
    other = ["backbone.name=EfficientNetV2B0", "backbone.weights=random"]
    change = plan_overrides(workspace, None, other)
    assert change.params.backbone.cut is None
    assert any(line.startswith("backbone.cut: ") for line in change.told(workspace))
    said = plan_overrides(workspace, None, [*other, "backbone.cut=block2b_add"])
    assert said.params.backbone.cut == "block2b_add"
    # What a notebook asks for is taken as it is.
    backbone = change.params.backbone.model_copy(update={"cut": "block_13_expand_relu"})
    asked = change.params.model_copy(update={"backbone": backbone})
    assert "backbone.cut=block_13_expand_relu" in overrides_to(asked, workspace)

    change.write(workspace)
    back = plan_overrides(workspace, None, ["backbone.name=MobileNetV2"])
    assert back.params.backbone.cut == "block_13_expand_relu"


def test_a_key_that_a_stage_names_by_itself_is_put_in(workspace: Workspace, checkout: Path) -> None:
    """DVC wants each key that a stage names, and a section of an earlier time has not all."""
    shutil.copy(checkout / "dvc.yaml", workspace.root)
    text = workspace.params_file.read_text()
    lines = [line for line in text.splitlines(keepends=True) if not line.startswith("  device:")]
    workspace.params_file.write_text("".join(lines))
    change = plan_overrides(workspace, None, [])
    assert change.told(workspace) == ["compute.device: absent → auto"]
    change.write(workspace)
    assert plan_overrides(workspace, None, []).text is None
