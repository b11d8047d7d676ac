"""What is this user's alone is so under any umask, and stays so."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from graftline.core.errors import ServerError
from graftline.core.files import replacing_directory, replacing_file, write_text
from graftline.core.private import keep_private, keep_state_private, login, login_file
from graftline.core.workspace import Workspace

UMASKS = (0o000, 0o022, 0o077)


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def mode(path: Path) -> str:
    return f"{stat.S_IMODE(path.stat().st_mode):o}"


@pytest.mark.parametrize("mask", UMASKS)
def test_the_login_is_its_owners_alone(tmp_path: Path, mask: int) -> None:
    file = login_file(Workspace(tmp_path))
    keep_private(file.parent)
    with umask(mask):
        text = login(file)
    assert mode(file) == "600"
    assert mode(file.parent) == "700"
    name, _, password = text.partition(":")
    assert name == "graftline"
    assert len(password) == 43
    assert file.read_text() == f"{text}\n"


def test_it_is_made_once_for_all_who_ask_at_once(tmp_path: Path) -> None:
    file = login_file(Workspace(tmp_path))
    given: list[str] = []
    threads = [threading.Thread(target=lambda: given.append(login(file))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(given) == 8
    assert len(set(given)) == 1
    assert login(file) == given[0]


def test_another_checkout_has_another_one_and_so_has_this_one_once_it_is_removed(
    tmp_path: Path,
) -> None:
    here, there = (login_file(Workspace(tmp_path / name)) for name in ("here", "there"))
    first = login(here)
    assert login(there) != first
    here.unlink()
    assert login(here) != first


def open_to_others(file: Path) -> None:
    file.chmod(0o640)


def led_elsewhere(file: Path) -> None:
    file.rename(file.with_name("elsewhere"))
    file.symlink_to("elsewhere")


def emptied(file: Path) -> None:
    file.write_text("")


def chosen_by_hand(file: Path) -> None:
    file.write_text("graftline:12345\n")


@pytest.mark.parametrize("spoil", [open_to_others, led_elsewhere, emptied, chosen_by_hand])
def test_a_login_that_others_may_know_is_refused(
    tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    file = login_file(Workspace(tmp_path))
    text = login(file)
    spoil(file)
    with pytest.raises(ServerError) as caught:
        login(file)
    assert caught.value.exit_code == 2
    assert text.partition(":")[2] not in str(caught.value)
    assert f"rm {file}" in str(caught.value.fix)
    file.unlink()
    assert login(file) != text


@pytest.mark.parametrize("mask", UMASKS)
def test_var_and_dvcs_own_folder_are_closed(tmp_path: Path, mask: int) -> None:
    workspace = Workspace(tmp_path)
    workspace.params_file.write_text("")
    (tmp_path / ".dvc").mkdir()
    with umask(mask):
        keep_state_private(workspace)
    assert mode(workspace.var) == "700"
    assert mode(tmp_path / ".dvc" / "tmp") == "700"


def test_one_of_before_is_closed_and_an_owner_who_takes_more_from_himself_keeps_that(
    tmp_path: Path,
) -> None:
    workspace = Workspace(tmp_path)
    for before, after in (("755", "700"), ("777", "700"), ("500", "500")):
        workspace.var.mkdir(exist_ok=True)
        workspace.var.chmod(int(before, 8))
        keep_state_private(workspace)
        assert mode(workspace.var) == after


def test_outside_of_a_checkout_nothing_is_made(tmp_path: Path) -> None:
    keep_state_private(Workspace(tmp_path))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("mask", "file_mode", "folder_mode"),
    [(0o000, "666", "777"), (0o022, "644", "755"), (0o027, "640", "750"), (0o077, "600", "700")],
)
def test_an_output_has_the_mode_that_the_umask_gives(
    tmp_path: Path, mask: int, file_mode: str, folder_mode: str
) -> None:
    file, folder = tmp_path / "out.txt", tmp_path / "out"
    with umask(mask):
        for _ in range(2):
            write_text(file, "x")
            with replacing_directory(folder) as new:
                (new / "part").write_text("x")
            assert mode(file) == file_mode
            assert mode(folder) == folder_mode
            assert mode(folder / "part") == file_mode


def test_one_that_was_written_by_a_library_with_a_mode_of_its_own_has_it_too(
    tmp_path: Path,
) -> None:
    with umask(0o027), replacing_file(tmp_path / "out") as temporary:
        temporary.unlink()
        os.close(os.open(temporary, os.O_CREAT | os.O_WRONLY, 0o600))
    assert mode(tmp_path / "out") == "640"


@pytest.mark.parametrize(
    ("old", "mask", "new"),
    [(0o600, 0o022, "600"), (0o640, 0o000, "640"), (0o644, 0o077, "600"), (0o444, 0o022, "644")],
)
def test_what_comes_in_the_place_of_a_closed_file_is_no_wider_open(
    tmp_path: Path, old: int, mask: int, new: str
) -> None:
    file = tmp_path / "params.yaml"
    file.write_text("x")
    file.chmod(old)
    with umask(mask):
        write_text(file, "y")
    assert mode(file) == new


def test_what_comes_in_the_place_of_a_closed_folder_is_no_wider_open(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir(mode=0o700)
    with umask(0o022), replacing_directory(tmp_path / "out") as new:
        (new / "part").write_text("x")
    assert mode(tmp_path / "out") == "700"
