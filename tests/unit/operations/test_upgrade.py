"""``graftline upgrade``: what is as it was written is renewed, what is the user's is kept."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import graftline
from graftline.cli.main import main
from graftline.core.errors import ParamsError, ProjectError
from graftline.core.params import read_params
from graftline.core.workspace import Workspace
from graftline.operations import project_files, stage_runner
from graftline.operations import upgrade as upgrading
from graftline.operations.new_project import make_project
from graftline.operations.project_files import WRITTEN_FILE, Written, copied_files
from graftline.operations.upgrade import upgrade


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_project(tmp_path_factory.mktemp("made") / "p", None).root


@pytest.fixture
def project(made: Path, tmp_path: Path) -> Workspace:
    return Workspace(shutil.copytree(made, tmp_path / "p"))


@pytest.fixture
def newer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A version that writes two files otherwise, has one more, and one less."""
    files = copied_files()
    files["tasks/load.py"] += "# newer\n"
    files["tasks/train.py"] += "# newer\n"
    files["tasks/new.py"] = "# new\n"
    del files["flows/watch.py"]
    monkeypatch.setattr(upgrading, "copied_files", lambda: dict(files))
    for module in (graftline, project_files.graftline):
        monkeypatch.setattr(module, "__version__", "9.9.9")


def test_the_same_version_changes_nothing(project: Workspace) -> None:
    before = (project.root / WRITTEN_FILE).read_bytes()
    done = upgrade(project)
    assert (done.written, done.removed, done.kept, done.absent) == ([], [], {}, [])
    assert (project.root / WRITTEN_FILE).read_bytes() == before


@pytest.mark.usefixtures("newer")
def test_untouched_files_are_renewed_and_touched_ones_are_kept(project: Workspace) -> None:
    mine = project.root / "tasks" / "train.py"
    text = mine.read_text() + "# mine\n"
    mine.write_text(text)
    (project.root / "flows" / "serve.py").unlink()
    params = project.params_file.read_text().replace("seed: 0", "seed: 4")
    project.params_file.write_text(params)

    done = upgrade(project)
    assert set(done.written) == {"tasks/load.py", "tasks/new.py", "pyproject.toml"}
    assert done.removed == ["flows/watch.py"]
    assert done.absent == ["flows/serve.py"]
    assert set(done.kept) == {"tasks/train.py"}
    assert (
        "-# mine\n" in done.kept["tasks/train.py"] and "+# newer\n" in done.kept["tasks/train.py"]
    )
    assert mine.read_text() == text
    assert project.params_file.read_text() == params
    assert "graftline==9.9.9" in (project.root / "pyproject.toml").read_text()
    assert not (project.root / "flows" / "watch.py").exists()
    assert Written.read_in(project).version == "9.9.9"
    # What is the user's is so the next time, too.
    again = upgrade(project)
    assert (again.written, set(again.kept)) == ([], {"tasks/train.py"})


def test_params_of_an_earlier_version_get_what_they_lack_and_keep_the_rest(
    project: Workspace, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = project.params_file.read_text().replace(
        "  learning_rate: 0.001\n", "  learning_rate: 0.07\n"
    )
    # The images may be elsewhere when the project is upgraded.
    text = text.replace("source: mnist-5k ", "source: folder ").replace("data/no-files", "/away")
    of_before, _, rest = text.partition("\ncompute:")
    _, _, rest = rest.partition("\n\n")
    project.params_file.write_text(f"{of_before}\n{rest}".replace("  epochs: 10\n", "\n"))
    before = project.params_file.read_text()

    def fail(*_: object) -> None:
        raise AssertionError("the stage has begun")

    monkeypatch.setenv("DVC_STAGE", "load")
    monkeypatch.setattr(stage_runner, "_run", fail)
    with pytest.raises(ParamsError, match="params.yaml lacks compute.deterministic, compute.d"):
        stage_runner.run_stage("load", project)
    assert main(["upgrade", "-C", str(project.root)]) == 0
    said = capsys.readouterr().out
    assert "params   compute.device: absent → auto\n" in said and "look at it with git diff" in said
    with pytest.raises(AssertionError, match="the stage has begun"):
        stage_runner.run_stage("load", project)
    after = project.params_file.read_text()
    assert after.startswith(before) and read_params(project.params_file).train.learning_rate == 0.07
    # What no stage names by itself is as good where it is.
    assert "  epochs: 10" not in after
    assert main(["upgrade", "-C", str(project.root)]) == 0
    assert ": current\n" in capsys.readouterr().out


def test_a_folder_that_init_has_not_made_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ProjectError, match="nobody knows which files"):
        upgrade(Workspace(tmp_path))
