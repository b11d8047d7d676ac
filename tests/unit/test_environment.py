from __future__ import annotations

from pathlib import Path

import pytest

from graftline.environment import prefect_address, quiet_environment
from graftline.workspace import Workspace

ADDRESS = "http://prefect.example:4200/api"


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    """An environment whose Prefect settings lie in an empty folder."""
    return {"PREFECT_HOME": str(tmp_path / "prefect-home")}


def test_telemetry_is_off_and_prefect_at_home_in_var(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    defaults = quiet_environment(workspace, {"PREFECT_PROFILES_PATH": str(tmp_path / "none")})
    assert defaults["PREFECT_SERVER_ANALYTICS_ENABLED"] == "false"
    assert defaults["DO_NOT_TRACK"] == "true"
    assert defaults["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert defaults["PREFECT_HOME"] == str(workspace.var / "prefect")


def test_what_the_user_has_set_stays(tmp_path: Path) -> None:
    given = {"PREFECT_HOME": "/mine", "MLFLOW_DISABLE_TELEMETRY": "false"}
    assert not given.keys() & quiet_environment(Workspace(tmp_path), given).keys()


def test_a_chosen_api_keeps_its_own_home(tmp_path: Path) -> None:
    given = {"PREFECT_API_URL": ADDRESS}
    assert "PREFECT_HOME" not in quiet_environment(Workspace(tmp_path), given)


def test_no_address_without_a_choice(tmp_path: Path, home: dict[str, str]) -> None:
    assert prefect_address(home, tmp_path) is None


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (".env", f"# mine\nexport PREFECT_API_URL='{ADDRESS}'\n"),
        ("prefect.toml", f'[api]\nurl = "{ADDRESS}"\n'),
        ("pyproject.toml", f'[tool.prefect.api]\nurl = "{ADDRESS}"\n'),
        (
            "prefect-home/profiles.toml",
            f'active = "work"\n[profiles.work]\nPREFECT_API_URL = "{ADDRESS}"\n[profiles.other]\n',
        ),
    ],
)
def test_the_address_is_found_where_prefect_finds_it(
    tmp_path: Path, home: dict[str, str], name: str, text: str
) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")
    assert prefect_address(home, tmp_path) == ADDRESS
    assert prefect_address({**home, "PREFECT_API_URL": "http://nearer/api"}, tmp_path) == (
        "http://nearer/api"
    )


def test_another_profile_may_be_chosen(tmp_path: Path, home: dict[str, str]) -> None:
    path = tmp_path / "prefect-home" / "profiles.toml"
    path.parent.mkdir()
    path.write_text(
        f'active = "work"\n[profiles.work]\nPREFECT_API_URL = "{ADDRESS}"\n[profiles.other]\n',
        encoding="utf-8",
    )
    assert prefect_address({**home, "PREFECT_PROFILE": "other"}, tmp_path) is None


def test_files_that_are_no_toml_are_left_to_prefect(tmp_path: Path, home: dict[str, str]) -> None:
    (tmp_path / "prefect.toml").write_bytes(b"\xff[")
    assert prefect_address(home, tmp_path) is None
