"""No connection leaves the machine: a run in a network namespace that has no route."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.flows.tiny import make, sh

NAMESPACE = ("unshare", "--map-root-user", "--net", "sh", "-c")


def namespaces_work() -> bool:
    if not (shutil.which("unshare") and shutil.which("ip")):
        return False
    return subprocess.run((*NAMESPACE, "ip link set lo up"), check=False).returncode == 0


pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not namespaces_work(), reason="this machine gives its users no network namespaces"
    ),
]


def attempts(root: Path, command: str) -> dict[str, int]:
    """What a command tried to send past this machine, by the kernel's own count."""
    said = sh(root, *NAMESPACE, f"ip link set lo up && {command} && cat /proc/net/snmp")
    counts: dict[str, int] = {}
    lines = [line for line in said.splitlines() if line.startswith(("Ip:", "Udp:"))]
    for names, values in zip(lines[::2], lines[1::2], strict=True):
        protocol = names.split(":")[0]
        for name, value in zip(names.split()[1:], values.split()[1:], strict=True):
            counts[f"{protocol}{name}"] = int(value)
    return {name: counts[name] for name in ("IpOutNoRoutes", "UdpOutDatagrams")}


def test_an_attempt_is_counted(tmp_path: Path) -> None:
    code = 'import socket; s = socket.socket(); print(s.connect_ex(("192.0.2.1", 443)))'
    assert attempts(tmp_path, f"{sys.executable} -c '{code}'")["IpOutNoRoutes"] == 1


def test_a_whole_run_attempts_nothing(tmp_path: Path) -> None:
    workspace = make(tmp_path)
    counts = attempts(workspace.root, f"{sys.executable} -m flows.train")
    assert counts == {"IpOutNoRoutes": 0, "UdpOutDatagrams": 0}
    assert workspace.metrics.exists()
