"""``make setup``: what counts as whole, what is refused, and one at a time."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from scripts import install
from tests import disks

ROOT = Path(__file__).resolve().parents[2]


def test_it_needs_nothing_but_the_standard_library() -> None:
    script = "import sys; sys.path.insert(0, sys.argv[1]); import install; print('ran')"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", script, str(ROOT / "scripts")],
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout == "ran\n"


@pytest.mark.parametrize("version", [(3, 11), (3, 12), (3, 13)])
def test_supported_pythons(version: tuple[int, ...]) -> None:
    install.check_python(version)


@pytest.mark.parametrize("version", [(2, 7), (3, 9), (3, 10), (3, 14), (4, 0)])
def test_other_pythons_are_refused_with_what_is_needed(version: tuple[int, ...]) -> None:
    with pytest.raises(install.InstallError, match=r"3\.11, 3\.12 or 3\.13 is needed"):
        install.check_python(version)


def test_the_range_is_that_of_the_project_file() -> None:
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    lowest, end = (".".join(map(str, v)) for v in (install.PYTHON_MIN, install.PYTHON_END))
    assert f'requires-python = ">={lowest},<{end}"' in project


def test_what_installs_the_rest_comes_from_the_lock_with_its_hashes() -> None:
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    text = install.entries(lock, ("setuptools", "uv"))
    assert re.findall(r"^([a-z-]+)==", text, re.MULTILINE) == ["setuptools", "uv"]
    for entry in re.split(r"^(?=[a-z])", text, flags=re.MULTILINE)[1:]:
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", entry)
    for line in text.splitlines():
        assert line in lock.splitlines()
    with pytest.raises(install.InstallError, match="does not pin nothing-like-it"):
        install.entries(lock, ("nothing-like-it",))


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout whose environment is whole."""
    for name in ("requirements.lock", "pyproject.toml"):
        (tmp_path / name).write_text(f"{name}\n")
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.symlink_to(sys.executable)
    monkeypatch.setattr(install, "ROOT", tmp_path)
    monkeypatch.setattr(install, "LOCK", tmp_path / "requirements.lock")
    monkeypatch.setattr(install, "PROJECT", tmp_path / "pyproject.toml")
    monkeypatch.setattr(install, "VENV", tmp_path / ".venv")
    monkeypatch.setattr(install, "STAMP", tmp_path / ".venv" / "stamp")
    install.STAMP.write_text(install.stamp(tmp_path, install.LOCK, install.PROJECT))
    return tmp_path


def test_a_whole_environment_is_left_alone(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(install, "_install", lambda: pytest.fail("there was nothing to do"))
    assert install.main() == 0


@pytest.mark.parametrize("change", ["lock", "project", "stamp", "python", "place"])
def test_an_environment_that_may_not_be_whole_is_completed(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    if change == "lock":
        install.LOCK.write_text("other\n")
    elif change == "project":
        install.PROJECT.write_text("other\n")
    elif change == "stamp":
        install.STAMP.unlink()
    elif change == "python":
        (checkout / ".venv" / "bin" / "python").unlink()
    elif change == "place":
        monkeypatch.setattr(install, "ROOT", checkout / "elsewhere")
    assert not install.is_whole()


def test_a_failure_leaves_no_stamp_and_says_what_to_do(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    install.LOCK.write_text((ROOT / "requirements.lock").read_text(encoding="utf-8"))
    monkeypatch.setattr(install, "_make_venv", lambda: None)
    monkeypatch.setattr(install, "_run", lambda command: 1)
    assert install.main() == 1
    assert not install.STAMP.exists()
    assert "is a package index within reach?" in capsys.readouterr().err


def test_uv_goes_without_a_cache_where_it_can_write_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("UV_CACHE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert "--no-cache" not in install._uv()
    with disks.mounted(tmp_path / "home", "size=16k,ro"):
        uv = [*install._uv(), "--quiet", "--offline", "nothing-like-it"]
        done = subprocess.run(uv, capture_output=True, text=True, check=False)
        # It gets as far as looking for the package.
        assert "nothing-like-it was not found" in done.stderr
        monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "elsewhere"))
        assert "--no-cache" not in install._uv()


def test_the_second_waits_for_the_first(tmp_path: Path) -> None:
    lock = tmp_path / "var" / "locks" / "setup.lock"
    holder = (
        "import pathlib, sys, time; from scripts.install import one_at_a_time\n"
        "with one_at_a_time(pathlib.Path(sys.argv[1])):\n"
        "    print('held', flush=True); time.sleep(0.5)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", holder, str(lock)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        started_s = time.monotonic()
        assert (tmp_path / "var").stat().st_mode & 0o777 == 0o700
        with install.one_at_a_time(lock):
            assert process.poll() is not None or time.monotonic() - started_s > 0.2


@pytest.mark.kill
def test_the_death_of_the_first_lets_the_second_go_on(tmp_path: Path) -> None:
    lock = tmp_path / "setup.lock"
    holder = (
        "import pathlib, sys, time; from scripts.install import one_at_a_time\n"
        "with one_at_a_time(pathlib.Path(sys.argv[1])):\n"
        "    print('held', flush=True); time.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", holder, str(lock)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        process.kill()
        process.wait()
        started_s = time.monotonic()
        with install.one_at_a_time(lock):
            assert time.monotonic() - started_s < 10


def test_make_names_what_is_missing_where_no_python_serves(tmp_path: Path) -> None:
    (tmp_path / "scripts").mkdir()
    (tmp_path / "Makefile").write_text((ROOT / "Makefile").read_text(encoding="utf-8"))
    old = tmp_path / "python3"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    make, bash = shutil.which("make"), shutil.which("bash")
    assert make is not None
    done = subprocess.run(
        [make, "setup", f"SHELL={bash}"],
        cwd=tmp_path,
        env={"PATH": str(tmp_path)},
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0
    assert "no Python 3.11, 3.12 or 3.13 was found" in done.stderr
