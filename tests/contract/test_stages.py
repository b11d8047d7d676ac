"""``dvc.yaml`` says what each step is made of: its code, its parameters, its inputs and outputs."""

from __future__ import annotations

import ast
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

import graftline
from graftline.core.code_lock import locked_digests
from graftline.core.code_state import code_files, imported_files, step_digests
from graftline.core.params import NO_FILES, Params
from graftline.core.stage_params import READ_AFTER_TRAINING, keys_of_stages
from graftline.core.stages import STAGES
from graftline.core.workspace import Workspace

ROOT = Path(__file__).resolve().parents[2]
RECORD = YAML(typ="safe").load(ROOT / "dvc.yaml")
AFTER_TRAINING = ("register", "promote")
SECTIONS = {name: field.alias or name for name, field in Params.model_fields.items()}


def paths(entries: list[Any]) -> list[str]:
    return [entry if isinstance(entry, str) else next(iter(entry)) for entry in entries]


def parameters(stage: str) -> list[str]:
    """The sections of ``params.yaml`` that a stage names, or names a key of."""
    entries = [entry for entry in RECORD["stages"][stage]["params"] if isinstance(entry, str)]
    return list(dict.fromkeys(entry.partition(".")[0] for entry in entries))


def sections_read(file: Path) -> set[str]:
    """The sections that a module reads from an object named ``params``."""
    return {
        SECTIONS[node.attr]
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "params"
        and node.attr in SECTIONS
    }


def test_the_stages_are_the_steps_in_their_order() -> None:
    assert tuple(RECORD["stages"]) == STAGES


@pytest.mark.parametrize("stage", STAGES)
def test_a_step_has_its_stage_and_its_module(stage: str) -> None:
    assert RECORD["stages"][stage]["cmd"] == f"python -m graftline {stage}"
    assert (ROOT / "graftline" / "steps" / f"{stage}.py").is_file()


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_the_code_that_it_runs(stage: str) -> None:
    entries = [entry for entry in RECORD["stages"][stage]["params"] if isinstance(entry, dict)]
    assert entries == [{"graftline.lock": [f"steps.{stage}"]}]


def test_the_digests_of_the_code_are_those_of_the_code() -> None:
    said = locked_digests(ROOT)
    assert said == step_digests(STAGES), "graftline lock brings graftline.lock up to date"
    record = YAML(typ="safe").load(ROOT / "graftline.lock")
    assert record["version"] == graftline.__version__


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_names_the_parameters_that_it_reads_and_no_others(stage: str) -> None:
    declared = parameters(stage)
    assert set(declared) == sections_read(ROOT / "graftline" / "steps" / f"{stage}.py")
    steps = {f"graftline/steps/{other}.py" for other in STAGES}
    for path in set(code_files(ROOT, f"graftline/steps/{stage}.py")) - steps:
        assert sections_read(ROOT / path) <= set(declared), path


def test_every_section_is_read_somewhere() -> None:
    declared = {key for stage in STAGES for key in parameters(stage)}
    # These are no stages: side effects, and what a flow measures.
    decides_nothing = {"drift", "notify", "promote", "register"}
    assert declared == set(SECTIONS.values()) - decides_nothing
    steps = (ROOT / f"graftline/steps/{step}.py" for step in AFTER_TRAINING)
    after = set().union(*(sections_read(step) for step in steps))
    assert after == set(READ_AFTER_TRAINING) == {"promote", "register"}


def test_what_each_stage_reads_is_found_in_dvc_yaml() -> None:
    sections = ("seed", "head", "freeze", "augment", "extract", "train", "tune")
    wanted = (*sections, "compute.device", "compute.precision")
    assert keys_of_stages(ROOT)["freeze"] == wanted
    assert tuple(keys_of_stages(ROOT)) == STAGES


@pytest.mark.parametrize("stage", STAGES)
def test_an_output_stays_until_the_new_one_is_whole(stage: str) -> None:
    record = RECORD["stages"][stage]
    for entry in [*record["outs"], *record.get("metrics", [])]:
        assert isinstance(entry, dict), f"{entry} lacks persist"
        ((path, options),) = entry.items()
        assert options.get("persist") is True, path


def test_an_input_is_the_source_or_an_earlier_output() -> None:
    made: list[str] = []
    for stage in RECORD["stages"].values():
        for dep in stage["deps"]:
            if dep != "${data.path}/.":
                assert any(dep == out or dep.startswith(f"{out}/") for out in made), dep
        made += paths([*stage["outs"], *stage.get("metrics", [])])


def test_the_outputs_of_the_workspace_are_those_of_the_stages() -> None:
    made: list[str] = []
    for stage in RECORD["stages"].values():
        made += paths([*stage["outs"], *stage.get("metrics", [])])
    assert sorted(map(str, Workspace(Path("/x")).outputs)) == sorted(f"/x/{one}" for one in made)


def test_git_ignores_every_output_as_dvc_would_have_it() -> None:
    ignored: dict[str, set[str]] = {}
    for stage in RECORD["stages"].values():
        for path in paths([*stage["outs"], *stage.get("metrics", [])]):
            folder, _, name = path.rpartition("/")
            ignored.setdefault(folder, set()).add(f"/{name}")
    for folder, names in ignored.items():
        lines = (ROOT / folder / ".gitignore").read_text(encoding="utf-8").splitlines()
        assert set(lines) == names, folder


def test_what_python_imports_is_found(tmp_path: Path) -> None:
    package = tmp_path / "graftline"
    (package / "sub").mkdir(parents=True)
    for name in ("__init__", "a", "b", "c", "d", "e", "typed", "sub/__init__", "sub/x", "sub/y"):
        (package / f"{name}.py").write_text("")
    (package / "steps").mkdir()
    (package / "steps" / "__init__.py").write_text("")
    (package / "steps" / "step.py").write_text(
        "import os\n"
        "from typing import TYPE_CHECKING\n"
        "import graftline.a\n"
        "from graftline import b, nothing\n"
        "from graftline.sub.x import value\n"
        "if TYPE_CHECKING:\n"
        "    from graftline import typed\n"
        "else:\n"
        "    from graftline import e\n"
        "def work():\n"
        "    from graftline.c import value\n"
    )
    (package / "c.py").write_text("from . import d\n")
    (package / "sub" / "x.py").write_text("from .y import value\nfrom ..steps.step import work\n")
    names = ["a", "b", "c", "d", "e", "steps/__init__", "steps/step"]
    names += ["sub/__init__", "sub/x", "sub/y"]
    found = code_files(tmp_path, "graftline/steps/step.py")
    assert found == [f"graftline/{name}.py" for name in names]
    assert imported_files(tmp_path, "graftline/c.py") == {"graftline/__init__.py", "graftline/d.py"}


@pytest.mark.filterwarnings("ignore:_NoneStep.value:DeprecationWarning")
class TestSource:
    """How DVC sees ``data.path``, with a stage that has the dependency of ``load``."""

    @pytest.fixture
    def repository(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, params_text: str) -> Path:
        root = tmp_path / "checkout"
        root.mkdir()
        (root / "data").mkdir()
        for name in (NO_FILES, ".dvcignore"):
            shutil.copy(ROOT / name, root / name)
        (root / "params.yaml").write_text(params_text, encoding="utf-8")
        left = ["cache", "config.local", "tmp"]
        shutil.copytree(ROOT / ".dvc", root / ".dvc", ignore=lambda *_: left)
        (root / ".gitignore").write_text("var/\n/out\n")
        (root / "dvc.yaml").write_text(
            "stages:\n"
            "  load:\n"
            "    cmd: echo x > out\n"
            "    deps:\n"
            f"      - {RECORD['stages']['load']['deps'][-1]}\n"
            "    params: [data]\n"
            "    outs: [out]\n"
        )
        git(root, "init", "--quiet")
        git(root, "add", "--all")
        git(root, "commit", "--quiet", "--message", "start")
        monkeypatch.chdir(root)
        return root

    def test_no_path_at_all(self, repository: Path) -> None:
        assert dvc("repro") == 0
        assert dvc("status", "--quiet") == 0
        assert git(repository, "status", "--porcelain") == "?? dvc.lock\n"

    @pytest.mark.parametrize("place", ["var/images", "images", "../outside", "absolute", "a.npz"])
    def test_a_source_that_changes_makes_load_stale(self, repository: Path, place: str) -> None:
        path = str(repository.parent / "far") if place == "absolute" else place
        source = repository / path
        if place.endswith(".npz"):
            changing = source
        else:
            source.mkdir(parents=True)
            changing = source / "first.png"
        changing.write_bytes(b"1")
        params = (repository / "params.yaml").read_text()
        (repository / "params.yaml").write_text(
            params.replace(f"path: {NO_FILES}", f"path: {path}")
        )

        assert dvc("repro") == 0
        assert dvc("status", "--quiet") == 0
        changing.write_bytes(b"22")
        assert dvc("status", "--quiet") == 1
        changing.write_bytes(b"1")
        assert dvc("status", "--quiet") == 0
        if source != changing:
            (source / "second.png").write_bytes(b"2")
            assert dvc("status", "--quiet") == 1


def git(root: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=root, check=True, capture_output=True, text=True)
    return done.stdout


def dvc(*arguments: str) -> int:
    # In this process: starting DVC takes longer than what it does here.
    from dvc.cli import main

    return int(main([*arguments]))
