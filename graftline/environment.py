"""What Prefect, MLflow and DVC find in the environment: quiet, and at home in ``var/``.

Every value here is a default. What the user has set stays as it is.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from graftline.workspace import Workspace

RUN_ID_VARIABLE = "GRAFTLINE_RUN_ID"
"""The tracked run that a stage's figures go to."""
ERROR_FILE_VARIABLE = "GRAFTLINE_ERROR_FILE"
"""Where a stage leaves its error as JSON for the flow that started it."""
HELD_BY_VARIABLE = "GRAFTLINE_PIPELINE_HELD_BY"
"""The process number of the flow that holds the pipeline for the stage."""
WEBHOOK_VARIABLE = "GRAFTLINE_WEBHOOK"
"""The web address that is told of verdicts, where it is a secret."""

_QUIET = {
    "DO_NOT_TRACK": "true",
    "DVC_NO_ANALYTICS": "true",
    # The word: MLflow takes no other spelling.
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    # Each try waits twice as long as the one before: seven outlast a server's two minutes.
    "PREFECT_CLIENT_MAX_RETRIES": "7",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    "TF_CPP_MIN_LOG_LEVEL": "2",
    # The same seed gives other weights without it.
    "TF_ENABLE_ONEDNN_OPTS": "1",
}


def quiet_environment(
    workspace: Workspace, environment: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Defaults for what the environment leaves open: telemetry off, state under ``var/``.

    Args:
        workspace: Whose ``var/`` holds Prefect's database.
        environment: What is set already; by default this process's environment.

    Returns:
        Only what is not set yet; ``os.environ | quiet_environment(workspace)`` is complete.
    """
    given = os.environ if environment is None else environment
    defaults = dict(_QUIET)
    if prefect_address(given, workspace.root) is None:
        defaults["PREFECT_HOME"] = str(prefect_home(workspace))
    return {name: value for name, value in defaults.items() if name not in given}


def prefect_home(workspace: Workspace) -> Path:
    """Where the Prefect server of one's own keeps its database."""
    return workspace.var / "prefect"


def prefect_address(environment: Mapping[str, str], directory: Path) -> str | None:
    """The address of the Prefect API that the user has chosen, if any.

    Looked for where Prefect looks, in its order: the environment, ``.env``, ``prefect.toml``,
    ``pyproject.toml`` and the active profile. Prefect itself is not asked, since importing it
    takes seconds in which its server can already be starting.
    """
    if address := environment.get("PREFECT_API_URL"):
        return address
    candidates = (
        _dotenv(directory / ".env").get("PREFECT_API_URL"),
        _nested(_toml(directory / "prefect.toml"), "api", "url"),
        _nested(_toml(directory / "pyproject.toml"), "tool", "prefect", "api", "url"),
        _profile(environment).get("PREFECT_API_URL"),
    )
    return next((str(address) for address in candidates if address), None)


def _profile(environment: Mapping[str, str]) -> dict[str, Any]:
    home = Path(environment.get("PREFECT_HOME") or Path.home() / ".prefect").expanduser()
    path = Path(environment.get("PREFECT_PROFILES_PATH") or home / "profiles.toml")
    profiles = _toml(path.expanduser())
    name = environment.get("PREFECT_PROFILE") or profiles.get("active")
    profile = _nested(profiles, "profiles", str(name))
    return profile if isinstance(profile, dict) else {}


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError):
        # Prefect says what is wrong with its own files better than this look ahead could.
        return {}


def _dotenv(path: Path) -> dict[str, str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return {}
    pairs = (line.removeprefix("export ").partition("=") for line in lines if "=" in line)
    return {name.strip().upper(): value.strip().strip("'\"") for name, _, value in pairs}


def _nested(record: Any, *keys: str) -> Any:
    for key in keys:
        if not isinstance(record, dict):
            return None
        record = record.get(key)
    return record
