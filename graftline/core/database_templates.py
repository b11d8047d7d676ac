"""Empty databases of Prefect and MLflow.

``python -m graftline.core.database_templates`` makes them.

Each of the two builds a new database by a hundred migrations, which takes seconds of every
first run in a new checkout. So set-up keeps an empty one of each in the environment, and a
process that needs a new database begins with a copy. Where there is none, Prefect and MLflow build
their own.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path

from graftline.core.environment import settled
from graftline.core.errors import StalledError
from graftline.core.files import replacing_file
from graftline.core.silence import ended
from graftline.core.workspace import Workspace

FOLDER = Path(sys.prefix) / "share" / "graftline"
_PREFIX = "making-"


def begin_with_copy(package: str, database: Path) -> None:
    """Puts the empty database where one is to be, unless there is one, or none was kept.

    Args:
        package: Whose: ``prefect`` or ``mlflow``.
        database: The SQLite file. Its user holds a lock for its first use.
    """
    kept = _kept(package)
    if database.exists() or not kept.is_file():
        return
    database.parent.mkdir(parents=True, exist_ok=True)
    with replacing_file(database) as temporary:
        shutil.copyfile(kept, temporary)


def main() -> int:
    """Makes those that are not there; both at once, since each keeps one core busy.

    Returns:
        The exit code: 1 if one could not be made.
    """
    FOLDER.mkdir(parents=True, exist_ok=True)
    for left in FOLDER.glob(f"{_PREFIX}*"):
        shutil.rmtree(left, ignore_errors=True)
    missing = [package for package in ("prefect", "mlflow") if not _kept(package).is_file()]
    with ThreadPoolExecutor() as pool:
        made = list(pool.map(_make, missing))
    return 0 if all(made) else 1


def _kept(package: str) -> Path:
    # Another version may have other migrations, and then begins with its own.
    return FOLDER / f"{package}-{version(package)}.db"


def _make(package: str) -> bool:
    with tempfile.TemporaryDirectory(prefix=_PREFIX, dir=FOLDER) as folder:
        database = Path(folder) / f"{package}.db"
        command = {
            "prefect": ("server", "database", "upgrade", "-y"),
            "mlflow": ("db", "upgrade", f"sqlite:///{database}"),
        }[package]
        try:
            done = ended(
                [sys.executable, "-m", package, *command],
                cwd=Path(folder),
                environment=_environment(Path(folder), database),
            )
        except StalledError:
            return False
        if done.returncode or not database.is_file():
            return False
        database.replace(_kept(package))
    return True


def _environment(folder: Path, database: Path) -> dict[str, str]:
    # Nothing of the user's settings: they may name the database of a server that others use.
    own = {name: text for name, text in os.environ.items() if not name.startswith("PREFECT_")}
    return {
        **settled(Workspace(folder), own),
        "PREFECT_HOME": str(folder),
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{database}",
    }


if __name__ == "__main__":
    sys.exit(main())
