"""The git repository around a checkout: its own, a bigger one, none, or one that git refuses."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from graftline.core import repository
from graftline.core.errors import RepositoryError
from graftline.core.repository import (
    below_top,
    changed_files,
    check_git,
    check_own_git,
    check_repository,
    git_folders,
    top,
)
from graftline.core.workspace import Workspace
from graftline.operations import worktrees
from graftline.operations.dvc_exp_guard import refuse_after_interrupted
from graftline.registry.tracking.run_contents import origin_tags
from tests import finished, gitconfig

BELOW = "größere Arbeit/mein Modell"


def git(root: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=root, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def committed(repository: Path, root: Path) -> Path:
    """A checkout's files in a repository with one commit, which holds others beside it."""
    repository.mkdir(parents=True, exist_ok=True)
    git(repository, "init", "-q", "-b", "main")
    for name in ("params.yaml", "dvc.yaml", "dvc.lock", "code.py", "naïve file.py", "old.py"):
        write(root / name, f"{name}, as it was, long enough to be told by its text\n")
    write(root / ".dvc" / "config", "[core]\n    analytics = false\n")
    write(repository / "other" / "code.py", "first\n")
    git(repository, "add", "-A")
    git(repository, "commit", "-qm", "first")
    return root


@pytest.fixture(params=["the top", "below", "a worktree", "a submodule"])
def checkout(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    big = tmp_path / "big"
    if request.param == "the top":
        return committed(big, big)
    if request.param == "below":
        return committed(big, big / BELOW)
    if request.param == "a worktree":
        committed(big, big / BELOW)
        git(big, "worktree", "add", "-q", str(tmp_path / "linked"), "-b", "linked")
        return tmp_path / "linked" / BELOW
    committed(tmp_path / "part", tmp_path / "part")
    committed(big, big)
    allowed = ("-c", "protocol.file.allow=always")
    git(big, *allowed, "submodule", "add", "-q", str(tmp_path / "part"), "vendor/part")
    git(big, "commit", "-qm", "a part")
    return big / "vendor" / "part"


def test_changed_files_are_named_from_the_checkouts_root(checkout: Path) -> None:
    assert changed_files(checkout) == []
    repository = top(checkout)
    assert repository is not None
    git(checkout, "config", "core.quotePath", "true")
    git(checkout, "config", "status.relativePaths", "true")
    for name in ("params.yaml", "dvc.lock", "naïve file.py"):
        write(checkout / name, "changed\n")
    git(checkout, "mv", "old.py", "new name.py")
    write(checkout / "untracked.py", "new\n")
    if repository != checkout:
        write(repository / "other" / "code.py", "second\n")
    wanted = ["dvc.lock", "naïve file.py", "new name.py", "old.py", "params.yaml"]
    assert sorted(changed_files(checkout) or ()) == wanted
    tags = origin_tags(Workspace(checkout), finished.some_params(), "test")
    assert tags["graftline.git_dirty"] == "true"
    assert tags["graftline.git_changed"] == "params.yaml"


def test_a_neighbours_changes_make_nothing_dirty(tmp_path: Path) -> None:
    root = committed(tmp_path, tmp_path / BELOW)
    write(tmp_path / "other" / "code.py", "second\n")
    # One file comes from there, which is a new file here.
    git(tmp_path, "mv", "other/code.py", "other/moved.py")
    assert changed_files(root) == []
    write(root / "dvc.lock", "changed\n")
    tags = origin_tags(Workspace(root), finished.some_params(), "test")
    assert tags["graftline.git_dirty"] == "false"
    assert "graftline.git_changed" not in tags


def test_a_copy_in_somebody_elses_repository_is_dirty(tmp_path: Path) -> None:
    committed(tmp_path, tmp_path)
    copy = tmp_path / "copy"
    write(copy / "code.py", "never committed\n")
    tags = origin_tags(Workspace(copy), finished.some_params(), "test")
    assert tags["graftline.git_dirty"] == "true"
    assert tags["graftline.git_changed"] == "every file: git tracks none of this checkout"


def test_awkward_settings_change_no_byte_and_nothing_that_is_asked(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(Path(__file__).parents[3] / ".gitattributes", checkout)
    git(checkout, "add", ".gitattributes")
    git(checkout, "commit", "-qm", "ends of lines")
    text = (checkout / "code.py").read_bytes()
    assert b"\n" in text and b"\r" not in text
    for name, value in gitconfig.awkward(tmp_path / "settings").items():
        monkeypatch.setenv(name, value)
    with pytest.raises(subprocess.CalledProcessError):
        git(checkout, "commit", "--allow-empty", "-qm", "a hook of the user's refuses it")

    check_repository(checkout)
    assert changed_files(checkout) == []
    commit = git(checkout, "rev-parse", "HEAD")
    with worktrees.worktree(checkout, commit) as copy:
        assert (copy / "code.py").read_bytes() == text
    shallow = tmp_path / "shallow"
    address = f"file://{top(checkout)}"
    git(tmp_path, "-c", "core.hooksPath=", "clone", "-q", "--depth", "1", address, str(shallow))
    git(shallow, "-c", "core.hooksPath=", "checkout", "-q", "--detach")
    clone = shallow / below_top(checkout)
    assert (clone / "code.py").read_bytes() == text
    check_repository(clone)
    assert changed_files(clone) == []
    write(clone / "code.py", "changed\n")
    assert changed_files(clone) == ["code.py"]
    tags = origin_tags(Workspace(clone), finished.some_params(), "test")
    assert tags["mlflow.source.git.commit"] == commit
    assert not worktrees.has_commit(clone, git(checkout, "rev-parse", "HEAD~1"))


def test_another_repositorys_variables_lead_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = committed(tmp_path / "big", tmp_path / "big" / BELOW)
    other = committed(tmp_path / "other", tmp_path / "other")
    write(root / "code.py", "changed\n")
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(other))
    monkeypatch.setenv("GIT_INDEX_FILE", str(other / "no-index"))
    monkeypatch.setenv("GIT_LITERAL_PATHSPECS", "1")
    assert changed_files(root) == ["code.py"]
    assert below_top(root) == BELOW
    assert top(root) == tmp_path / "big"


@pytest.mark.parametrize(
    "checkout",
    [
        "a worktree",
        *(
            pytest.param(place, marks=pytest.mark.slow)
            for place in ("the top", "below", "a submodule")
        ),
    ],
    indirect=True,
)
def test_a_worktree_holds_the_checkout_where_it_lies(checkout: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "dvc", "init", "-q", "-f"]
        + (["--subdir"] if below_top(checkout) else []),
        cwd=checkout,
        check=True,
    )
    git(checkout, "add", "-A", ".")
    git(checkout, "commit", "-qm", "DVC")
    commit = git(checkout, "rev-parse", "HEAD")
    write(checkout / "code.py", "changed since\n")
    # Images that no commit holds, where ../ leads to.
    write(checkout.parent / "photos" / "one.png", "an image")
    with worktrees.worktree(checkout, commit) as copy:
        assert (copy / "code.py").read_text().startswith("code.py, as it was")
        assert (copy / ".." / "photos" / "one.png").read_text() == "an image"
        told = [sys.executable, "-m", "dvc", "cache", "dir"]
        said = subprocess.run(told, cwd=copy, check=True, capture_output=True, text=True).stdout
        cache = (copy / said.replace("\n", "")).resolve()
        assert cache == (checkout / ".dvc" / "cache").resolve() and cache.is_dir()
        assert below_top(copy) == below_top(checkout)
        assert not copy.is_relative_to(top(checkout) or checkout)
        place = top(copy)
        assert changed_files(copy) == []
    assert place is not None and not place.exists()
    assert (checkout.parent / "photos" / "one.png").exists()
    assert (checkout / "code.py").read_text() == "changed since\n"


def test_a_killed_experiment_is_found_wherever_the_checkout_lies(checkout: Path) -> None:
    from graftline.core.errors import InterruptedExperimentError

    git(checkout, "checkout", "-q", "-b", "chosen")
    write(checkout / "params.yaml", "seed: 2\n")
    git(checkout, "stash", "-q")
    git(checkout, "checkout", "-q", "--detach")
    with pytest.raises(InterruptedExperimentError, match="git checkout --force chosen"):
        refuse_after_interrupted(Workspace(checkout))
    own, common = git_folders(checkout) or (Path(), Path())
    assert (own / "HEAD").is_file() and (common / "refs" / "stash").is_file()


def problem(root: Path) -> RepositoryError:
    with pytest.raises(RepositoryError) as caught:
        check_repository(root)
    assert caught.value.exit_code == 2
    return caught.value


def follow(root: Path, error: RepositoryError) -> None:
    """Does what the error says, word by word."""
    command = (error.fix or "").splitlines()[0]
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    subprocess.run(command, shell=True, cwd=root, check=True, env={**os.environ, "PATH": path})


def test_a_checkout_in_order_is_let_pass(checkout: Path) -> None:
    check_repository(checkout)
    check_own_git(checkout)


def test_a_zip_without_git_is_told_what_helps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = committed(tmp_path, tmp_path)
    shutil.rmtree(root / ".git")
    # Nobody has told git a name here.
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME"):
        monkeypatch.delenv(name)
    monkeypatch.delenv("GIT_COMMITTER_EMAIL")
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", "user.useConfigOnly")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", "true")
    check_own_git(root)  # a step by itself needs no git
    error = problem(root)
    assert "in no git repository, as where it was downloaded as a ZIP" in error.what
    assert "user.name=me" in str(error)
    follow(root, error)
    check_repository(root)
    assert changed_files(root) == []


def test_who_goes_without_git_says_so_to_dvc(tmp_path: Path) -> None:
    root = committed(tmp_path, tmp_path)
    shutil.rmtree(root / ".git")
    other = (problem(root).fix or "").splitlines()[1].partition("reproduce: ")[2]
    subprocess.run(["sh", "-c", other], cwd=root, check=True)
    check_repository(root)
    told = [sys.executable, "-m", "dvc", "config", "core.no_scm"]
    said = subprocess.run(told, cwd=root, check=True, capture_output=True, text=True).stdout
    assert said.strip() == "true"


def test_a_repository_without_a_commit_is_told_what_helps(tmp_path: Path) -> None:
    root = committed(tmp_path, tmp_path)
    shutil.rmtree(root / ".git")
    git(root, "init", "-q")
    error = problem(root)
    assert "has no commit yet" in error.what
    follow(root, error)
    check_repository(root)


@pytest.mark.skipif(os.getuid() != 0, reason="only root may give files away")
def test_a_checkout_of_another_owner_is_told_what_helps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    root = committed(tmp_path / "big", tmp_path / "big" / BELOW)
    for path in (tmp_path / "big", *(tmp_path / "big").rglob("*")):
        os.chown(path, 12345, 12345)
    for check in (check_repository, check_own_git, check_git):
        with pytest.raises(RepositoryError, match="belongs to another user"):
            check(root)
    error = problem(root)
    assert (error.fix or "").startswith("git config --global --add safe.directory ")
    follow(root, error)
    check_repository(root)
    assert changed_files(root) == []


def test_without_git_it_is_said_that_git_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = committed(tmp_path, tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    error = problem(root)
    assert "git is not installed" in error.what
    assert "apt install git" in str(error)
    with pytest.raises(RepositoryError, match="git is not installed"):
        check_own_git(root)


@pytest.mark.parametrize("below", ["", BELOW])
def test_a_copy_without_hidden_files_gets_dvc_back(tmp_path: Path, below: str) -> None:
    root = committed(tmp_path, tmp_path / below)
    shutil.rmtree(root / ".dvc")
    write(root / ".dvcignore", "")
    git(root, "add", ".dvcignore")
    assert problem(root).fix == "git checkout -- .dvc .dvcignore"
    follow(root, problem(root))
    check_repository(root)
    shutil.rmtree(root / ".dvc")
    git(root, "commit", "-qam", "without DVC")
    assert problem(root).fix == ("dvc init --subdir" if below else "dvc init")
    follow(root, problem(root))
    check_repository(root)


def test_another_folder_is_no_checkout(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    assert "no project of Graftline" in problem(tmp_path).what


def test_a_git_that_hangs_is_no_fault_of_graftlines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hanging = tmp_path / "git"
    hanging.write_text("#!/bin/sh\nexec sleep 60\n")
    hanging.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(repository, "_TIMEOUT_S", 0.1)
    assert repository.git(tmp_path, "status") is None
    with pytest.raises(RepositoryError, match=r"git rev-parse has not ended within 0\.1 s"):
        repository.check_git(tmp_path)
