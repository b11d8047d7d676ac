"""What a machine has to compute on, and what is said where it has not what is asked for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from graftline.compute import devices
from graftline.core.errors import ParamsError


def test_without_a_driver_tensorflow_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "drivers", lambda: ())
    monkeypatch.setitem(__import__("sys").modules, "tensorflow", None)
    devices.gpus.cache_clear()
    assert devices.gpus() == ()
    devices.gpus.cache_clear()


@pytest.mark.parametrize(
    ("wanted", "there", "device"),
    [("auto", True, "gpu"), ("auto", False, "cpu"), ("cpu", True, "cpu"), ("gpu", True, "gpu")],
)
def test_auto_takes_a_gpu_where_there_is_one(
    wanted: str, there: bool, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "gpus", lambda: (devices.Gpu("a card", (8, 9)),) if there else ())
    assert devices.resolved_device(wanted) == device


def test_where_the_cores_compute_no_gpu_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setattr(devices, "drivers", lambda: ())
    assert devices.settled_device("cpu") == "cpu"
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "0"
    monkeypatch.setattr(devices, "drivers", lambda: ("nvidia0",))
    assert devices.settled_device("cpu") == "cpu"
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "-1"


@pytest.mark.parametrize(
    ("found", "told"), [((), "this machine has none"), (("nvidiactl",), "/dev/nvidiactl")]
)
def test_a_gpu_that_is_not_there_is_the_users_to_mend(
    found: tuple[str, ...], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "gpus", lambda: ())
    monkeypatch.setattr(devices, "drivers", lambda: found)
    with pytest.raises(ParamsError, match=told) as error:
        devices.resolved_device("gpu")
    assert error.value.exit_code == 2
    assert "compute.device" in str(error.value)


def test_drivers_are_found_by_their_files(tmp_path: Path) -> None:
    (tmp_path / "nvidia0").touch()
    assert devices.drivers(tmp_path) == ("nvidia0",)


def test_flags_are_those_of_the_system(tmp_path: Path) -> None:
    path = tmp_path / "cpuinfo"
    path.write_text("model name\t: one\nflags\t\t: sse amx_bf16 amx_tile\n")
    assert devices.cpu_flags(path) == {"sse", "amx_bf16", "amx_tile"}
    assert devices.cpu_flags(tmp_path / "absent") == frozenset()


@pytest.mark.parametrize(
    ("places", "host"),
    [
        ([("a", None), ("b", None)], None),
        ([("a", None), ("b", None), ("b", None)], "b"),
        ([("a", "0"), ("a", "1"), ("b", "0")], None),
        ([("a", "0,1"), ("a", "1")], "a"),
        ([("a", "0"), ("a", None)], "a"),
    ],
)
def test_two_processes_do_not_share_a_card(
    places: list[tuple[str, str | None]], host: str | None
) -> None:
    assert devices.sharing_cards(places) == host
