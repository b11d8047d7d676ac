"""Values that are text: what ``--set`` says is what every reader of ``params.yaml`` gets."""

from __future__ import annotations

from pathlib import Path

import pytest
from dvc.utils.serialize import load_yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from graftline.core.errors import DataError, ParamsError
from graftline.core.params import NO_FILES, read_params, with_overrides
from graftline.core.workspace import Workspace
from graftline.orchestration.overrides import plan_overrides

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)


@pytest.fixture
def workspace(tmp_path: Path, params_text: str) -> Workspace:
    made = Workspace(tmp_path)
    made.params_file.write_text(params_text)
    return made


@settings(max_examples=40)
@given(text=TEXTS)
@example("photos #2")
@example("a: b")
@example("*all")
@example("&x")
@example("!x")
@example('"quoted"')
@example("yes")
@example("off")
@example("y")
@example("1e3")
@example("0x10")
@example("1:30")
@example("2024-01-01")
@example("trailing ")
@example("line\nend\r")
@example("\ufeff\u2028\x85")
@example("${data.source}")
@example("~")
def test_a_text_is_what_was_typed_to_graftline_and_to_dvc(
    params_text: str, tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    workspace = Workspace(tmp_path_factory.mktemp("any"))
    workspace.params_file.write_text(params_text)
    change = plan_overrides(workspace, None, [f"backbone.cut=x{text}", "train.epochs=3 # few"])
    change.write(workspace)

    assert read_params(workspace.params_file).backbone.cut == f"x{text}"
    assert load_yaml(str(workspace.params_file))["backbone"]["cut"] == f"x{text}"
    assert change.params.train.epochs == 3


@settings(max_examples=40)
@given(text=TEXTS.filter(lambda text: text != "null"))
@example("#")
@example("no")
def test_a_text_by_itself_is_never_read_as_yaml(text: str) -> None:
    assert with_overrides({}, [f"data.path={text}"]) == {"data": {"path": text}}


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("data.path=null", None),
        ("data.path=~", "~"),
        ("data.manifest=null", "null"),
        ("notify.command=echo 'a: b' # c", "echo 'a: b' # c"),
        ("register.model_name=1e3", "1e3"),
        ("backbone.weights_sha256=" + "0" * 63 + "1", "0" * 63 + "1"),
        ("train.epochs=3", 3),
        ("train.ema=null", None),
        ("head.units=[1, 2]", [1, 2]),
        ("freeze.strategy=last_blocks: 2", {"last_blocks": 2}),
        ("freeze.budget=off", "off"),
        ("data.source=mnist # all", "mnist"),
        ("no.such.key=yes # x", "yes"),
    ],
)
def test_only_text_is_taken_as_it_stands(override: str, value: object) -> None:
    found: object = with_overrides({}, [override])
    for key in override.partition("=")[0].split("."):
        assert isinstance(found, dict)
        found = found[key]
    assert found == value


def test_a_folder_with_a_sign_of_yaml_in_its_name_is_the_source(workspace: Workspace) -> None:
    for name in ("photos", "photos #2"):
        (workspace.root / name).mkdir()
    plan_overrides(workspace, None, ["data.source=folder", "data.path=photos #2"]).write(workspace)
    assert read_params(workspace.params_file).data.path == "photos #2"


def test_a_home_is_written_out(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    (workspace.root / "house" / "photos").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(workspace.root / "house"))
    expected = f"{workspace.root}/house/photos"

    change = plan_overrides(workspace, None, ["data.source=folder", "data.path=~/photos"])
    change.write(workspace)
    assert change.params.data.path == expected
    assert load_yaml(str(workspace.params_file))["data"]["path"] == expected
    assert plan_overrides(workspace, None, []).text is None


@pytest.mark.parametrize("by_file", [False, True])
def test_a_home_in_a_file_is_written_out_too(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, by_file: bool
) -> None:
    (workspace.root / "photos").mkdir()
    monkeypatch.setenv("HOME", str(workspace.root))
    text = workspace.params_file.read_text(encoding="utf-8")
    text = text.replace("source: mnist-5k ", "source: folder ").replace(
        f"path: {NO_FILES} ", "path: ~/photos "
    )
    file = workspace.root / "other.yaml" if by_file else workspace.params_file
    file.write_text(text, encoding="utf-8")

    change = plan_overrides(workspace, file if by_file else None, [])
    expected = text.replace("path: ~/photos ", f"path: {workspace.root}/photos ")
    # All comments stay; that of the changed line moves with the path's length.
    assert change.text is not None and change.text.split() == expected.split()
    assert read_params(file).data.path == f"{workspace.root}/photos"


def test_a_home_of_nobody_is_named(workspace: Workspace) -> None:
    with pytest.raises(DataError, match="~nobody-of-this-name/x"):
        plan_overrides(workspace, None, ["data.source=folder", "data.path=~nobody-of-this-name/x"])


def test_a_name_that_is_no_text_is_refused(workspace: Workspace) -> None:
    with pytest.raises(ParamsError, match="no text in UTF-8") as caught:
        plan_overrides(workspace, None, ["data.source=folder", "data.path=x\udcff"])
    assert "rename" in str(caught.value.fix)


def test_an_empty_text_is_not_null(workspace: Workspace) -> None:
    with pytest.raises(ParamsError, match="backbone.cut"):
        plan_overrides(workspace, None, ["backbone.cut="])
