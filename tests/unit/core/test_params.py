"""Every parameter file gives typed parameters, or an error that its author understands."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from graftline.core.backbones import FAMILIES
from graftline.core.errors import ParamsError
from graftline.core.params import (
    NO_FILES,
    STRATEGY_FORMS,
    FirstBlocks,
    FromLayer,
    LastBlocks,
    Params,
    json_schema,
    params_from_record,
    read_params,
    read_record,
    with_overrides,
)
from graftline.core.params.yaml_text import parse_yaml

LEAST = {"data": {"source": "mnist-5k"}, "backbone": {"weights": "random"}}


def with_key(key: str, value: Any) -> dict[str, Any]:
    record = copy.deepcopy(LEAST)
    *sections, last = key.split(".")
    place: Any = record
    for section in sections:
        place = place.setdefault(section, {})
    place[last] = value
    return record


def refused(record: Any) -> ParamsError:
    with pytest.raises(ParamsError) as caught:
        params_from_record(record, "params.yaml")
    assert caught.value.exit_code == 2
    assert caught.value.where == "params.yaml"
    return caught.value


def test_the_committed_file_is_valid_and_names_every_key(params_text: str, tmp_path: Path) -> None:
    file = tmp_path / "params.yaml"
    file.write_text(params_text, encoding="utf-8")
    params = read_params(file)
    assert params.data.source == "mnist-5k"
    assert params.backbone.weights == "stanford-dogs"
    assert params.preprocess.size_px == 96
    assert_names_every_key(file)


def test_a_short_file_is_the_committed_one(params_text: str) -> None:
    short = {"data": {"source": "mnist-5k"}, "backbone": {"weights": "stanford-dogs"}}
    committed = params_from_record(parse_yaml(params_text, "params.yaml"), "params.yaml")
    assert params_from_record(short, "short.yaml") == committed


def test_the_cut_of_one_backbone_is_nothing_to_another() -> None:
    params = params_from_record(with_key("backbone.name", "EfficientNetV2B0"), "params.yaml")
    assert params.backbone.cut is None


def assert_names_every_key(file: Path) -> None:
    # What a file leaves out, `dvc exp run -S` cannot set.
    complete = json.loads(read_params(file).model_dump_json(by_alias=True))
    complete["data"]["path"] = complete["data"]["path"] or NO_FILES
    assert read_record(file) == complete


def test_the_parameters_of_the_examples_are_valid(checkout: Path) -> None:
    files = sorted((checkout / "examples").glob("*/params.yaml"))
    assert [file.parent.name for file in files] == ["flowers12", "mnist", "mnist-tuned"]
    for file in files:
        assert_names_every_key(file)


def test_a_source_without_files_has_no_path() -> None:
    params = params_from_record(with_key("data.path", NO_FILES), "params.yaml")
    assert params.data.path is None
    assert "data.path" in refused(with_key("data", {"source": "folder", "path": NO_FILES})).what


def test_what_is_left_out_takes_its_default() -> None:
    params = params_from_record(LEAST, "params.yaml")
    assert params.train.epochs == 10
    assert params.head.units == (256,)
    assert params.register_.model_name == "graftline"


def test_parameters_are_frozen() -> None:
    params = params_from_record(LEAST, "params.yaml")
    with pytest.raises(ValueError, match="frozen"):
        params.seed = 1


@pytest.mark.parametrize(
    ("key", "value", "got", "allowed"),
    [
        ("train.epoch", 3, "train.epoch: unknown key, with the value 3", "one of epochs, batch"),
        ("traim", {}, "traim: unknown key", "one of seed, data, preprocess, backbone"),
        ("train.epochs", "10", 'train.epochs: got "10" (text)', "train.epochs: a whole number"),
        ("train.epochs", 1.5, "train.epochs: got 1.5", "a whole number"),
        ("train.epochs", True, "train.epochs: got true", "train.epochs: a whole number"),
        ("train.epochs", 0, "train.epochs: got 0", "greater than or equal to 1"),
        ("train.epochs", None, "train.epochs: got null", "a whole number"),
        ("train.learning_rate", "fast", 'got "fast"', "train.learning_rate: a number"),
        ("train.learning_rate", 0, "train.learning_rate: got 0", "greater than 0"),
        ("train.schedule", "linear", 'got "linear"', "'constant' or 'cosine'"),
        ("head.units", 256, "head.units: got 256", "a list, as in [256] or []"),
        ("head.units", [64, 0], "head.units.1: got 0", "greater than or equal to 1"),
        ("head.dropout", 1, "head.dropout: got 1", "less than 1"),
        ("data.path", 3, "data.path: got 3", "data.path: text"),
        ("data.manifest", "../m.csv", 'data.manifest: got "../m.csv"', "matches the pattern"),
        ("data", None, "data: got null", "a section"),
        ("freeze", "all", 'freeze: got "all"', "a section"),
        ("backbone.weights_sha256", "12", "backbone.weights_sha256", "[0-9a-f]{64}"),
        ("register.model_name", "a/b", "register.model_name", "matches the pattern"),
    ],
)
def test_a_wrong_value_is_named_with_what_is_allowed(
    key: str, value: Any, got: str, allowed: str
) -> None:
    error = refused(with_key(key, value))
    assert got in error.what
    assert error.allowed is not None
    assert allowed in error.allowed


@pytest.mark.parametrize(("section", "key"), [("data", "source"), ("backbone", "weights")])
def test_a_missing_key_is_named(section: str, key: str) -> None:
    record = copy.deepcopy(LEAST)
    del record[section][key]
    assert f"{section}.{key}: this key is missing" in refused(record).what


def test_all_faults_are_named_at_once() -> None:
    record = with_key("train.epochs", 0)
    record["preprocess"] = {"size": 96}
    what = refused(record).what
    assert "train.epochs" in what
    assert "preprocess.size:" in what


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": {"source": "idx"}}, "source idx needs data.path, which is null"),
        ({"data": {"source": "mnist-5k", "path": "x"}}, "takes no data.path (got 'x')"),
        (
            {"data": {"source": "manifest", "path": "x", "manifest": "m.txt"}},
            "must end in .csv, .tsv or .parquet, and is 'm.txt'",
        ),
        ({"backbone": {"weights": "stanford-dogs", "alpha": 0.5}}, "alpha is 0.5"),
        (
            {"backbone": {"weights": "stanford-dogs", "name": "ResNet50V2"}},
            "exist for MobileNetV2 of alpha 1.0 only, and backbone.name is ResNet50V2",
        ),
        (
            {"backbone": {"weights": "random", "name": "ResNet"}},
            'backbone.name: got "ResNet" (text), allowed are MobileNetV2, MobileNetV3Small',
        ),
        (
            {"backbone": {"weights": "random", "name": "ResNet50V2", "alpha": 0.5}},
            "backbone.alpha is 0.5, and ResNet50V2 takes 1.0 only: it has no width multiplier",
        ),
        (
            {"backbone": {"weights": "random", "name": "MobileNetV3Small", "alpha": 0.5}},
            "backbone.alpha is 0.5, and MobileNetV3Small takes 0.75, 1.0",
        ),
        (
            {"backbone": {"weights": "random", "name": "Xception"}, "preprocess": {"size_px": 64}},
            "preprocess.size_px is 64, but Xception takes 71 or more",
        ),
        ({"backbone": {"weights": "random", "alpha": 0.4}}, "0.35, 0.5, 0.75, 1.0, 1.3, 1.4"),
        ({"backbone": {"weights": "random", "weights_sha256": "0" * 64}}, "set it to null"),
        ({"backbone": {"weights": "http://localhost/w.h5"}}, "by https only"),
        ({"backbone": {"weights": "w.h5"}}, "need backbone.weights_sha256"),
        (
            {"backbone": {"weights": "imagenet"}, "preprocess": {"size_px": 100}},
            "preprocess.size_px is 100, but Keras has ImageNet weights of MobileNetV2 for 96, 128",
        ),
    ],
)
def test_impossible_combinations_are_refused(changes: dict[str, Any], message: str) -> None:
    assert message in refused(LEAST | changes).what


def test_each_backbone_takes_imagenet_weights_of_its_own_sizes_and_its_usual_cut() -> None:
    for family in FAMILIES.values():
        for size_px in family.imagenet_sizes_px or (family.smallest_px, 100, 300):
            backbone = {"name": family.name, "weights": "imagenet", "cut": None}
            record = LEAST | {"backbone": backbone, "preprocess": {"size_px": size_px}}
            params = params_from_record(record, "params.yaml")
            assert params.backbone.cut_layer == family.last_layer
    cut = params_from_record(with_key("backbone.cut", "block_2_add"), "").backbone.cut_layer
    assert cut == "block_2_add"


@pytest.mark.parametrize(
    ("value", "strategy"),
    [
        ("all", "all"),
        ("none", "none"),
        ({"last_blocks": 2}, LastBlocks(last_blocks=2)),
        ("last_blocks: 2", LastBlocks(last_blocks=2)),
        ("first_blocks:1", FirstBlocks(first_blocks=1)),
        ("from_layer: block_6_expand", FromLayer(from_layer="block_6_expand")),
    ],
)
def test_strategies(value: Any, strategy: Any) -> None:
    assert params_from_record(with_key("freeze.strategy", value), "").freeze.strategy == strategy


@pytest.mark.parametrize(
    "value",
    [
        "al",
        "last_blocks",
        "last_blocks: many",
        "last_blocks: -1",
        "from_layer: 12",
        {"last_blocks": 0},
        {"last_block": 2},
        {"last_blocks": 1, "first_blocks": 2},
        {"from_layer": ""},
        {},
        3,
        None,
        ["all"],
    ],
)
def test_a_wrong_strategy_gives_one_line_with_every_form(value: Any) -> None:
    error = refused(with_key("freeze.strategy", value))
    assert error.what.count("\n") == 1
    assert "freeze.strategy: got " in error.what
    assert error.allowed == f"freeze.strategy: {STRATEGY_FORMS}"
    for form in ("all", "none", "last_blocks: n", "first_blocks: n", "from_layer: name"):
        assert form in STRATEGY_FORMS


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed: [", "this is no YAML"),
        ("seed: 0\nseed: 1\n", "this is no YAML"),
        ("- 1\n", "the file holds list, not keys and values"),
        ("", "the file holds NoneType"),
        ("seed: 2026-99-99\n", "a value cannot be read"),
        ("seed: 2026-01-01\n", "a value is no plain number or text"),
        ("seed: !!binary aGk=\n", "a value is no plain number or text"),
        ("seed: &a [*a]\n", "a value is no plain number or text"),
    ],
)
def test_what_is_no_parameter_file_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ParamsError) as caught:
        read_params(path)
    assert message in caught.value.what
    assert caught.value.where == str(path)


def test_an_absent_and_an_unreadable_file_are_told(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match="no parameter file here"):
        read_params(tmp_path / "params.yaml")
    with pytest.raises(ParamsError, match="cannot be read"):
        read_params(tmp_path)
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ParamsError, match="cannot be read"):
        read_params(binary)


def test_numbers_are_read_as_dvc_reads_them(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(json.dumps(LEAST)[:-1] + ', "train": {"learning_rate": 1e-3}}')
    assert read_params(path).train.learning_rate == 0.001


def test_overrides_change_a_copy() -> None:
    record = copy.deepcopy(LEAST)
    changed = with_overrides(
        record,
        ["train.learning_rate=5e-4", "head.units=[]", "freeze.strategy=last_blocks: 2", "seed=7"],
    )
    params = params_from_record(changed, "--set")
    assert params.train.learning_rate == 0.0005
    assert params.head.units == ()
    assert params.freeze.strategy == LastBlocks(last_blocks=2)
    assert params.seed == 7
    assert record == LEAST


@pytest.mark.parametrize("override", ["seed", "=3", "seed=[", ""])
def test_what_is_no_override_is_refused(override: str) -> None:
    with pytest.raises(ParamsError) as caught:
        with_overrides(LEAST, [override])
    assert f"--set {override}".rstrip() in str(caught.value)


def test_flat_parameters_are_scalars_by_dotted_key() -> None:
    params = params_from_record(with_key("freeze.strategy", {"last_blocks": 2}), "")
    flat = params.flat()
    assert flat["freeze.strategy.last_blocks"] == 2
    assert flat["head.units"] == "[256]"
    assert flat["register.model_name"] == "graftline"
    assert flat["data.path"] is None


def test_the_schema_knows_every_section() -> None:
    properties = json_schema()["properties"]
    assert list(properties) == list(read_sections())
    assert json_schema()["additionalProperties"] is False


def read_sections() -> list[str]:
    return [field.alias or name for name, field in Params.model_fields.items()]


KEYS = st.sampled_from(
    sorted({part for key in params_from_record(LEAST, "").flat() for part in key.split(".")})
)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.dates() | KEYS
VALUES = st.recursive(
    SCALARS | st.sampled_from(["idx", "folder", "imagenet", "last_blocks: 3", "cosine"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(KEYS | st.text(), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(VALUES)
def test_any_structure_gives_parameters_or_a_params_error(record: Any) -> None:
    given_or_refused(lambda: params_from_record(record, "here"))


@given(st.dictionaries(KEYS, st.dictionaries(KEYS, VALUES, max_size=4) | VALUES, max_size=6))
def test_any_sections_give_parameters_or_a_params_error(record: dict[str, Any]) -> None:
    given_or_refused(lambda: params_from_record(LEAST | record, "here"))


@given(st.text())
@example("seed: " + "9" * 5000)
@example("seed: !!int x")
@example("seed: !!timestamp x")
@example("? [1, 2]\n: 3")
@example("seed: " + "[" * 1000)
@example('seed: "\\ud800"')
@example("a: &a {<<: *a}")
def test_any_text_gives_parameters_or_a_params_error(tmp_path_factory: Any, text: str) -> None:
    path = tmp_path_factory.getbasetemp() / "params.yaml"
    path.write_text(text, encoding="utf-8", errors="replace")
    given_or_refused(lambda: read_params(path))


@given(st.text(), VALUES)
def test_any_override_gives_parameters_or_a_params_error(key: str, value: Any) -> None:
    given_or_refused(lambda: params_from_record(with_overrides(LEAST, [f"{key}={value}"]), "--set"))


def given_or_refused(read: Any) -> None:
    try:
        params = read()
    except ParamsError as error:
        assert error.what
        assert str(error)
        json.loads(error.to_json())
    else:
        assert isinstance(params, Params)
