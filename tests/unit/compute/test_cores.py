from __future__ import annotations

import os
from pathlib import Path

import pytest

from graftline.compute.cores import VARIABLE, allowed_cores, available_cores, using_workers


@pytest.fixture(autouse=True)
def many_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(16)), raising=False)
    monkeypatch.delenv(VARIABLE, raising=False)


def groups(folder: Path, lines: str, files: dict[str, str]) -> tuple[Path, Path]:
    for name, text in files.items():
        path = folder / "mounted" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (folder / "cgroup").write_text(lines)
    return folder / "cgroup", folder / "mounted"


@pytest.mark.parametrize(
    ("lines", "files", "cores"),
    [
        ("0::/\n", {"cpu.max": "200000 100000\n"}, 2),
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 2),
        ("0::/\n", {"cpu.max": "max 100000\n"}, 16),
        ("0::/\n", {"cpu.max": "10000 100000\n"}, 1),
        ("0::/\n", {"cpu.max": "9900000 100000\n"}, 16),
        # The narrowest of the groups around it binds.
        ("0::/a/b\n", {"a/cpu.max": "300000 100000\n", "a/b/cpu.max": "max 100000\n"}, 3),
        # In a container it may be named as the host names it.
        ("0::/docker/abc\n", {"cpu.max": "400000 100000\n"}, 4),
        (
            "5:devices:/\n1:cpu,cpuacct:/box\n0::/\n",
            {"cpu,cpuacct/box/cpu.cfs_quota_us": "500000\n"}
            | {"cpu,cpuacct/box/cpu.cfs_period_us": "100000\n"},
            5,
        ),
        ("1:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 16),
        ("0::/\n", {"cpu.max": "odd\n"}, 16),
        ("0::/../..\n", {"cpu.max": "200000 100000\n"}, 2),
    ],
)
def test_the_quota_of_the_container_binds(
    tmp_path: Path, lines: str, files: dict[str, str], cores: int
):
    assert allowed_cores(*groups(tmp_path, lines, files)) == cores


def test_without_control_groups_the_affinity_mask_binds(tmp_path: Path):
    assert allowed_cores(tmp_path / "absent", tmp_path) == 16


def test_the_parameter_comes_first_then_the_variable(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(VARIABLE, "5")
    assert available_cores() == 5
    with using_workers(3):
        assert available_cores() == 3
    with using_workers(None):
        assert available_cores() == 5
