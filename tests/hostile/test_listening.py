"""Nothing that Graftline starts can be reached from another machine."""

from __future__ import annotations

import ipaddress
import signal
import socket
import time
from pathlib import Path

import pytest

from tests import histories
from tests.flows import toy
from tests.hostile.marked import Marked, marked

pytestmark = pytest.mark.slow
ENVIRONMENT = {"PYTHONPATH": str(toy.CHECKOUT)}
LIMIT_S = 600.0


def reachable_from_elsewhere(one: Marked) -> dict[tuple[str, int], str]:
    return {
        place: command
        for place, command in one.listening.items()
        if not ipaddress.ip_address(place[0]).is_loopback
    }


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return toy.make(tmp_path / "checkout", histories.make_template(tmp_path)).root


def test_the_look_itself_finds_open_doors(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    code = "import socket, time; s = socket.create_server(('0.0.0.0', 0)); time.sleep(60)"
    with marked(tmp_path / "in", {}, "-c", code) as one:
        until = time.monotonic() + LIMIT_S
        while not one.listening and time.monotonic() < until:
            one.look()
        assert reachable_from_elsewhere(one)


def test_a_flow_with_a_server_of_its_own(root: Path) -> None:
    with marked(root, ENVIRONMENT, "-m", "flows.train") as one:
        code = one.watch(LIMIT_S)
        assert code == 0, (root.parent / "said.txt").read_text()
        # Prefect's server at least.
        assert one.listening
        assert not reachable_from_elsewhere(one)
        assert not one.family(), "something was left running"


def test_both_web_pages(root: Path) -> None:
    with marked(root, ENVIRONMENT, "-m", "graftline", "ui") as one:
        until = time.monotonic() + LIMIT_S
        said = root.parent / "said.txt"
        while "Ctrl-C" not in said.read_text() and time.monotonic() < until:
            one.look()
            assert one.process.poll() is None, said.read_text()
            time.sleep(0.5)
        one.look()
        assert len(one.listening) >= 2
        assert not reachable_from_elsewhere(one)
        for _, port in one.listening:
            assert not answers_from_outside(port)
        one.process.send_signal(signal.SIGINT)
        one.watch(60)


def answers_from_outside(port: int) -> bool:
    """Whether the machine's own outward address leads to this port."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            # No packet is sent: this only chooses the address that one would be sent from.
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return False
        outward = probe.getsockname()[0]
    if ipaddress.ip_address(outward).is_loopback:
        return False
    with socket.socket() as door:
        door.settimeout(2)
        return door.connect_ex((outward, port)) == 0
