"""What is told of a cluster that is gone."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import psutil
import pytest

from graftline.compute.cluster import Cluster, reached_page
from graftline.compute.own_cluster import Served
from graftline.core.errors import ClusterError
from graftline.core.params import ComputeParams
from graftline.core.process_identity import boot_id, host
from graftline.core.processes import ProcessIdentity


def test_a_kept_cluster_that_was_killed_is_gone_and_no_question_of_certificates(tmp_path: Path):
    """Its record stays, and only its own process would have removed it."""
    address = "tls://127.0.0.1:40404"
    gone = ProcessIdentity(pid=_unused(), started=1.0, boot=boot_id(), host=host())
    record = Served(process=gone, address=address, certificate="cert.pem", key="key.pem")
    record.write(tmp_path / Served.lies_at)
    with pytest.raises(ClusterError, match="kept there is gone") as caught:
        Cluster(tmp_path, ComputeParams(engine="dask", address=address), "load")
    assert "graftline cluster" in str(caught.value)
    another = ComputeParams(engine="dask", address="tls://127.0.0.1:40405")
    with pytest.raises(ClusterError, match="certificates are not told"):
        Cluster(tmp_path, another, "load")


def test_a_schedulers_page_that_only_its_machine_sees_is_found_there():
    with HTTPServer(("127.0.0.1", 0), _Page) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        port = server.server_port
        there = f"http://127.0.0.1:{port}/status"
        assert reached_page(there) == there
        # The scheduler tells its own host, and the page is not shown there.
        assert reached_page(f"http://127.0.0.2:{port}/status") == there
        server.shutdown()
    assert reached_page(there) is None


@pytest.mark.slow
def test_a_port_that_another_program_has_is_told(tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        # A process of its own: Dask leaves a socket open where it fails.
        command = [
            sys.executable,
            "-m",
            "graftline",
            "-C",
            str(tmp_path),
            "cluster",
            "--port",
            port,
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert f"where:   port {port}" in done.stderr and "already in use" in done.stderr


class _Page(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_):
        pass


def _unused() -> int:
    return next(pid for pid in range(4_000_000, 1, -1) if not psutil.pid_exists(pid))
