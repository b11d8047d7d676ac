from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from graftline.core.errors import ServerError, StorageFullError
from graftline.core.processes import ProcessIdentity, end_group
from graftline.operations import servers
from graftline.operations.servers import (
    Server,
    ServerRecord,
    alive,
    answers,
    join,
    join_running,
    keep_up,
    leave,
    let_go,
    process_of,
    serving,
    users,
)
from graftline.operations.servers import address as address_of

# A real process on a real port: the folder's listing is its health.
SERVES = ("http.server", "--bind", "127.0.0.1", "{port}")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    one = Server("Toy", tmp_path / "toy", SERVES, "/", preferred_port=0)
    yield one
    if record := servers.ServerRecord.find(one.record_file):
        end_group(record.process)


def record_of(server: Server) -> ServerRecord:
    record = servers.ServerRecord.find(server.record_file)
    assert record is not None
    return record


def port_of(address: str) -> int:
    return int(address.rpartition(":")[2])


def test_it_runs_while_it_is_used(server: Server) -> None:
    with serving(server) as address:
        assert address.startswith("http://127.0.0.1:")
        assert answers("127.0.0.1", port_of(address), "/")
        assert alive(server)
    assert not alive(server)
    assert not answers("127.0.0.1", port_of(address), "/")


def test_one_that_is_killed_while_it_is_needed_is_started_again_at_its_address(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(servers, "_WATCH_S", 0.05)
    said: list[str] = []
    address = join(server)
    with servers.kept_alive(server, address, said.append):
        killed = record_of(server).process
        os.kill(killed.pid, signal.SIGKILL)
        until = time.monotonic() + 60
        while record_of(server).process == killed and time.monotonic() < until:
            time.sleep(0.05)
        # Joining waits until it answers.
        assert join(server) == address
        assert answers("127.0.0.1", port_of(address), "/")
    leave(server)
    assert said == ["the Toy server was gone; it is being started again"]
    assert not alive(server)


def test_a_second_user_shares_it_and_the_last_one_stops_it(server: Server) -> None:
    address = join(server)
    code = (
        "import sys\nfrom pathlib import Path\nfrom graftline.operations.servers import *\n"
        f"server = Server('Toy', Path(sys.argv[1]), {SERVES!r}, '/', 0)\n"
        "print(join(server), flush=True)\nsys.stdin.readline()\nleave(server)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(server.folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout and other.stdout.readline() == f"{address}\n"
        leave(server)
        assert alive(server)
        other.communicate("done\n", timeout=30)
    assert not alive(server)


@pytest.mark.kill
def test_the_server_of_killed_users_is_taken_over(server: Server) -> None:
    address = join(server)
    gone = ProcessIdentity.of().model_copy(update={"started": 0.5})
    record_of(server).model_copy(update={"users": (gone,)}).write(server.record_file)
    assert join(server) == address
    assert [user.pid for user in record_of(server).users] == [os.getpid()]
    leave(server)
    assert not alive(server)


@pytest.mark.kill
def test_a_dead_server_is_started_anew(server: Server) -> None:
    join(server)
    first = record_of(server).process
    end_group(first)
    join(server)
    assert record_of(server).process != first
    leave(server)


def test_somebody_elses_answer_on_the_port_is_not_taken_for_its_own(tmp_path: Path) -> None:
    silent = Server(
        "Silent",
        tmp_path / "silent",
        ("timeit", "-n", "1", "-r", "1", "import time; time.sleep(60)"),
        "/",
        preferred_port=0,
    )
    silent.folder.mkdir()
    with serving(Server("Toy", tmp_path / "toy", SERVES, "/", preferred_port=0)) as address:
        record = servers._start(silent, port_of(address))
        try:
            assert not servers._ready(silent, record, limit_s=0.5)
        finally:
            end_group(record.process)


def test_one_that_does_not_start_is_reported_with_its_log(tmp_path: Path) -> None:
    broken = Server("Broken", tmp_path, ("no_such_module_at_all",), "/", preferred_port=0)
    with pytest.raises(ServerError, match="the Broken server ended while it started") as caught:
        join(broken, limit_s=20)
    assert caught.value.where == str(broken.log_file)
    assert "no_such_module_at_all" in broken.log_file.read_text()


def test_one_that_never_answers_is_given_up(tmp_path: Path) -> None:
    sleeps = ("timeit", "-n", "1", "-r", "1", "import time; time.sleep(60)")
    mute = Server("Mute", tmp_path, sleeps, "/", preferred_port=0)
    with pytest.raises(ServerError, match=r"the Mute server did not start within 0.5 s"):
        join(mute, limit_s=0.5)
    assert not servers.alive(mute)


def test_one_that_ends_for_want_of_space_says_so(tmp_path: Path) -> None:
    raises = ("timeit", "-n", "1", "raise OSError(28, 'No space left on device')")
    full = Server("Full", tmp_path, raises, "/", preferred_port=0)
    with pytest.raises(StorageFullError, match="no space is left on the disk"):
        join(full, limit_s=20)


def test_a_taken_port_is_not_insisted_on(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert servers._free_port(port) != port


def test_a_lasting_server_outlives_its_users_until_it_is_let_go(server: Server) -> None:
    address = keep_up(server)
    assert keep_up(server) == address
    assert join(server) == address
    leave(server)
    assert alive(server)
    assert let_go(server) == "stopped"
    assert not alive(server)
    assert let_go(server) == "absent"


def test_one_that_is_in_use_stays_for_its_users_when_it_is_let_go(server: Server) -> None:
    keep_up(server)
    join(server)
    assert let_go(server) == "in use"
    assert [user.pid for user in users(server)] == [os.getpid()]
    assert alive(server)
    leave(server)
    assert not alive(server)


def test_one_that_was_not_asked_to_last_is_left_to_its_users(server: Server) -> None:
    join(server)
    assert let_go(server) == "absent"
    assert alive(server)
    leave(server)


def test_only_one_that_runs_is_joined(server: Server) -> None:
    assert join_running(server) is None
    assert address_of(server) is None
    there = keep_up(server)
    assert join_running(server) == there == address_of(server)
    assert process_of(server) == record_of(server).process
    assert let_go(server) == "in use"
    leave(server)
    assert not alive(server)


def asking(server: Server) -> Server:
    """The same server, as if it asked for a login."""
    return replace(
        server, login_variable="TOY_LOGIN", login_file=server.folder.parent / "var" / "login"
    )


@pytest.mark.kill
def test_one_that_asks_nobody_for_a_login_is_not_taken_over(server: Server) -> None:
    # As an earlier Graftline started it.
    join(server)
    open_to_all = record_of(server).process
    join(asking(server))
    assert record_of(server).process != open_to_all
    assert not open_to_all.alive()
    assert len(record_of(server).login_digest) == 64
    leave(server)


@pytest.mark.kill
def test_one_whose_login_was_removed_makes_room_for_one_with_a_new_one(server: Server) -> None:
    server = asking(server)
    keep_up(server)
    first = record_of(server).process
    assert keep_up(server)
    assert record_of(server).process == first
    assert server.login_file is not None
    server.login_file.unlink()
    keep_up(server)
    assert record_of(server).process != first
    assert let_go(server) == "stopped"


def test_the_record_does_not_hold_the_login(server: Server) -> None:
    server = asking(server)
    with serving(server):
        assert server.login_file is not None
        text = server.login_file.read_text().strip().partition(":")[2]
        assert text not in (server.folder / "server.json").read_text()
