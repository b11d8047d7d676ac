"""Empty databases, made once at set-up: copied where none is, and never over one."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from graftline.core import database_templates
from graftline.core.database_templates import begin_with_copy, main
from graftline.core.silence import ended


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    kept = tmp_path / "kept"
    monkeypatch.setattr(database_templates, "FOLDER", kept)
    return kept


def test_a_new_database_begins_with_the_copy(folder: Path, tmp_path: Path) -> None:
    folder.mkdir()
    (folder / f"prefect-{version('prefect')}.db").write_bytes(b"empty")
    database = tmp_path / "var" / "prefect" / "prefect.db"
    begin_with_copy("prefect", database)
    assert database.read_bytes() == b"empty"


def test_one_that_is_there_stays(folder: Path, tmp_path: Path) -> None:
    folder.mkdir()
    (folder / f"mlflow-{version('mlflow')}.db").write_bytes(b"empty")
    database = tmp_path / "mlflow.db"
    database.write_bytes(b"a history")
    begin_with_copy("mlflow", database)
    assert database.read_bytes() == b"a history"


def test_one_of_another_version_is_not_taken(folder: Path, tmp_path: Path) -> None:
    folder.mkdir()
    (folder / "mlflow-0.1.db").write_bytes(b"old")
    begin_with_copy("mlflow", tmp_path / "mlflow.db")
    assert not (tmp_path / "mlflow.db").exists()


@pytest.mark.slow
def test_what_is_made_has_tables_and_nothing_of_this_machine(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = tmp_path / "others.db"
    for name in ("PREFECT_SERVER_DATABASE_CONNECTION_URL", "PREFECT_API_DATABASE_CONNECTION_URL"):
        monkeypatch.setenv(name, f"sqlite+aiosqlite:///{others}")
    (folder / "making-x").mkdir(parents=True)  # of a killed one
    assert main() == 0
    assert not others.exists()
    for package, tables in (("prefect", {"flow_run", "task_run"}), ("mlflow", {"runs", "metrics"})):
        with closing(sqlite3.connect(folder / f"{package}-{version(package)}.db")) as connection:
            found = {name for (name,) in connection.execute("select name from sqlite_master")}
            assert tables <= found
            assert not any(
                connection.execute(f"select count(*) from {name}").fetchone()[0]
                for name in (*tables, *({"experiments"} & found), *({"configuration"} & found))
            )
    assert len(list(folder.iterdir())) == 2


def test_what_cannot_be_made_leaves_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(command: Sequence[str], **options: Any) -> object:
        return ended([command[0], "-c", "raise SystemExit(3)"], **options)

    monkeypatch.setattr(database_templates, "ended", failing)
    assert main() == 1
    assert list(folder.iterdir()) == []
