"""Every module that is imported is declared, and what an extra brings is asked for by its name."""

from __future__ import annotations

import ast
import functools
import subprocess
import sys

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from graftline.core.errors import MissingPackageError
from graftline.core.installing import EXTRAS, require
from tests.contract.test_tree import PROJECT, ROOT

OWN = {"flows", "graftline", "tasks"}
NAMED = {"PIL": "pillow", "ruamel": "ruamel-yaml", "sklearn": "scikit-learn"}
"""The packages that are called otherwise than their module."""


@functools.cache
def imported(*folders: str) -> dict[str, str]:
    """By module of the first level, a file that imports it, wherever in it."""
    found: dict[str, str] = {}
    for path in (path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                names = [node.module]
            for name in names:
                found.setdefault(name.partition(".")[0], str(path.relative_to(ROOT)))
    return {
        name: file
        for name, file in found.items()
        if name not in OWN and name not in sys.stdlib_module_names
    }


def declared(*extras: str) -> set[str]:
    project = PROJECT["project"]
    texts = [*project["dependencies"]]
    for extra in extras:
        texts += project["optional-dependencies"][extra]
    return {canonicalize_name(Requirement(text).name) for text in texts}


def distribution(module: str) -> str:
    return canonicalize_name(NAMED.get(module, module))


def test_every_module_that_is_imported_is_declared() -> None:
    extra_modules = {module for modules in EXTRAS.values() for module in modules}
    for module, file in imported("graftline", "flows", "tasks").items():
        extras = EXTRAS if module in extra_modules else ()
        assert distribution(module) in declared(*extras), f"{file} imports {module}"


def test_an_extra_brings_what_is_said_of_it() -> None:
    assert EXTRAS.keys() == PROJECT["project"]["optional-dependencies"].keys()
    for extra, modules in EXTRAS.items():
        brought = declared(extra) - declared()
        assert {distribution(module) for module in modules} == brought


def test_everything_that_is_declared_is_used() -> None:
    modules = imported("graftline", "flows", "tasks")
    used = {distribution(module) for module in modules}
    # DVC is run by its command; Starlette reads forms with python-multipart; what stores and
    # databases need is imported by DVC, MLflow and SQLAlchemy, by the address that the user sets.
    by_others = {"boto3", "dvc", "dvc-s3", "psycopg", "python-multipart"}
    not_yet = {"dask", "distributed", "openvino"}
    assert declared(*EXTRAS) - used - not_yet == by_others


def test_what_is_missing_of_an_extra_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tf2onnx", None)
    with pytest.raises(MissingPackageError) as caught:
        require("onnx", "the format onnx", "export.formats: onnx")
    said = str(caught.value)
    assert "the extra onnx of Graftline, and of that tf2onnx is not installed" in said
    assert "-m pip install 'graftline[onnx]'" in said


def test_the_package_is_imported_without_any_other() -> None:
    code = "import sys; import graftline; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run(
        [sys.executable, "-I", "-c", code], check=True, capture_output=True, text=True
    )
    assert set(done.stdout.split()) & imported("graftline").keys() == set()
