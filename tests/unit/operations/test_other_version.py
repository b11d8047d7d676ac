"""Another version of Graftline in an environment of its own, from a folder of wheels."""

from __future__ import annotations

import os
import shutil
import sys
import zipfile
from pathlib import Path

import pytest

from graftline.core.errors import ReproductionError
from graftline.core.workspace import Workspace
from graftline.operations import other_version
from graftline.operations.other_version import (
    OtherVersion,
    installed_version,
    is_version,
    locked_version,
    refuse_other_code,
)

LOCK = "version: {version}\nsteps:\n  load: {digest}\n"
COMMAND = """\
import pathlib, sys
def main():
    if sys.argv[1] == "lock":
        pathlib.Path("graftline.lock").write_text({lock!r})
    else:
        print("graftline {version}")
"""


def wheel(folder: Path, version: str, digest: str = "a" * 64) -> None:
    """A distribution of the same name, which knows two commands."""
    folder.mkdir(exist_ok=True)
    info = f"graftline-{version}.dist-info"
    lock = LOCK.format(version=version, digest=digest)
    with zipfile.ZipFile(folder / f"graftline-{version}-py3-none-any.whl", "w") as archive:
        for name, text in {
            "graftline.py": COMMAND.format(lock=lock, version=version),
            f"{info}/METADATA": f"Metadata-Version: 2.1\nName: graftline\nVersion: {version}\n",
            f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
            f"{info}/entry_points.txt": "[console_scripts]\ngraftline = graftline:main\n",
            f"{info}/RECORD": "",
        }.items():
            archive.writestr(name, text)


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the installers look, and nowhere else, as pip is told."""
    for name in [name for name in os.environ if name.startswith(("PIP_", "UV_"))]:
        monkeypatch.delenv(name)
    folder = tmp_path / "wheels"
    wheel(folder, "0.0.7")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    # What would lead an installer away from the environment that it is told.
    monkeypatch.setenv("PIP_TARGET", str(tmp_path / "elsewhere"))
    return folder


def project(tmp_path: Path, dependencies: str = '"graftline==0.0.9"') -> Path:
    root = tmp_path / "project"
    root.mkdir(exist_ok=True)
    (root / "pyproject.toml").write_text(f"[project]\ndependencies = [{dependencies}]\n")
    (root / "graftline.lock").write_text(LOCK.format(version="0.0.7", digest="a" * 64))
    return root


@pytest.mark.slow
@pytest.mark.parametrize("installer", ["uv", "pip"])
def test_it_is_installed_once_and_apart(
    installer: str, wheels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uv = other_version._uv()
    monkeypatch.setattr(other_version, "_uv", lambda: uv if installer == "uv" else None)
    workspace, said = Workspace(tmp_path), list[str]()
    root = project(tmp_path)

    def made() -> OtherVersion:
        return installed_version(workspace, root, "0.0.7", {}, said.append)

    other = made()
    assert said == [
        "graftline 0.0.7 is installed from the package index into "
        f"var/environments/{other.python.parents[1].name}, once; this may take minutes"
    ]
    assert other.version_of("graftline") == "0.0.7" and other.version_of("keras") is None
    assert not (tmp_path / "elsewhere").exists()
    environment = other.environment(os.environ, root)
    assert shutil.which("graftline", path=environment["PATH"]) == str(
        other.python.with_name("graftline")
    )
    refuse_other_code(other, root, environment)

    # Another call takes what is there; one whose installation was killed begins anew.
    assert made() == other and len(said) == 1
    (other.python.parents[1] / "installed").unlink()
    assert made() == other and len(said) == 2

    # In another place: an installer may have kept the earlier one by its address.
    wheel(tmp_path / "others", "0.0.7", "b" * 64)
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "others"))
    shutil.rmtree(other.python.parents[1])
    with pytest.raises(ReproductionError, match="of load it has other code"):
        refuse_other_code(made(), root, environment)


@pytest.mark.slow
@pytest.mark.parametrize("installer", ["uv", "pip"])
def test_what_the_index_lacks_is_said_in_the_installers_words(
    installer: str, wheels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uv = other_version._uv()
    monkeypatch.setattr(other_version, "_uv", lambda: uv if installer == "uv" else None)
    with pytest.raises(ReproductionError, match=rf"{installer} answered:\n(?s:.*)0\.0\.8"):
        installed_version(Workspace(tmp_path), project(tmp_path), "0.0.8", {}, lambda _: None)
    assert list((tmp_path / "var" / "environments").iterdir()) == []


def test_it_is_asked_for_with_what_the_project_names(tmp_path: Path) -> None:
    root = project(tmp_path, '"graftline[onnx,heif]==0.0.9", "requests>=2", "no requirement!"')
    wanted = list(other_version._wanted(root, "0.0.7", {"keras": "3.15.1"}))
    assert wanted == ["requests>=2", "graftline[heif,onnx]==0.0.7", "keras==3.15.1"]
    (root / "pyproject.toml").unlink()
    assert list(other_version._wanted(root, "0.0.7", {})) == ["graftline==0.0.7"]


def test_only_a_version_is_handed_to_an_installer(tmp_path: Path) -> None:
    root = project(tmp_path)
    assert locked_version(root) == "0.0.7"
    assert [
        is_version(one) for one in ("1.2", "1.2.dev3+x", "--index-url=x", "@ file:///x", "")
    ] == [*(True, True, False, False, False)]
    (root / "graftline.lock").write_text("version: --target=/\n")
    assert locked_version(root) is None


def test_uv_is_told_what_pip_is(monkeypatch: pytest.MonkeyPatch) -> None:
    pips = {"PIP_INDEX_URL": "https://index.example", "PIP_FIND_LINKS": "/one /two"}
    assert other_version._for_uv(pips) == pips | {
        "UV_DEFAULT_INDEX": "https://index.example",
        "UV_FIND_LINKS": "/one,/two",
    }
    own = pips | {"UV_DEFAULT_INDEX": "https://other.example"}
    assert other_version._for_uv(own) == own


def test_the_users_interpreter_is_the_base(tmp_path: Path) -> None:
    environment = OtherVersion("0.0.7", tmp_path / "bin" / "python").environment(
        {"PATH": str(Path(sys.executable).parent), "PYTHONPATH": "/mine", "VIRTUAL_ENV": "/x"},
        tmp_path,
    )
    assert environment == {
        "PATH": f"{tmp_path / 'bin'}{os.pathsep}{Path(sys.executable).parent}",
        "PYTHONPATH": str(tmp_path),
    }
