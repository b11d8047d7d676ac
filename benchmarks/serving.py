"""What HTTP costs: ``graftline serve`` against the predictor that it runs, on the same images.

Run with ``python -m benchmarks.serving --model models/trained``. The server is started on this
machine alone and stopped again. Every way of asking is measured in turn, for several rounds, each
bounded by a count and by seconds; the table shows medians over the rounds, as the machine is not
alone.
"""

from __future__ import annotations

import argparse
import base64
import http.client
import io
import json
import re
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table

from benchmarks.machine import load
from graftline.data.decoding import decode
from graftline.evaluation.predictor import Predictor

_MAX_PX = 1_000_000
_BATCH = 32
_CROWD = 8
_ANSWER_LIMIT_S = 60


@dataclass
class Way:
    """One way of asking.

    Args:
        name: In the table.
        images: Per question.
        clients: That ask at the same time.
        opened: Makes a client: what asks one question.
    """

    name: str
    images: int
    clients: int
    opened: Callable[[], Callable[[], None]]
    rates: list[float] = field(default_factory=list)
    p50_ms: list[float] = field(default_factory=list)
    p99_ms: list[float] = field(default_factory=list)

    def measure(self, questions: int, limit_s: float) -> None:
        """One round: no more than ``questions``, for no longer than ``limit_s``."""
        spent_s: list[float] = []
        lock = threading.Lock()
        until_s = time.perf_counter() + limit_s

        def client(_: int) -> None:
            ask = self.opened()
            ask()
            while True:
                with lock:
                    if len(spent_s) >= questions or time.perf_counter() > until_s:
                        return
                began_s = time.perf_counter()
                ask()
                with lock:
                    spent_s.append(time.perf_counter() - began_s)

        began_s = time.perf_counter()
        with ThreadPoolExecutor(self.clients) as pool:
            list(pool.map(client, range(self.clients)))
        self.rates.append(len(spent_s) * self.images / (time.perf_counter() - began_s))
        self.p50_ms.append(1000 * float(np.percentile(spent_s, 50)))
        self.p99_ms.append(1000 * float(np.percentile(spent_s, 99)))


def main() -> None:
    """Measures and prints one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=Path("models/trained"))
    parser.add_argument("--questions", type=int, default=200, help="in a round, at most")
    parser.add_argument("--seconds", type=float, default=5, help="of a round, at most")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    random = np.random.default_rng(0)
    files = [_png(random.integers(0, 256, (28, 28), dtype=np.uint8)) for _ in range(_BATCH)]
    busy = load()
    with Predictor(options.model) as predictor, _server(options.model) as address:
        ways = [*_direct(predictor, files), *_served(address, files)]
        for _ in range(options.rounds):
            for way in ways:
                way.measure(options.questions, options.seconds)
    _show(ways, options, busy)


def _direct(predictor: Predictor, files: list[bytes]) -> list[Way]:
    def asking(data: list[bytes]) -> Callable[[], Callable[[], None]]:
        def ask() -> None:
            predictor.probabilities(decode(one, _MAX_PX) for one in data)

        return lambda: ask

    return [
        Way("predictor, one image", 1, 1, asking(files[:1])),
        Way(f"predictor, {_BATCH} images", _BATCH, 1, asking(files)),
    ]


def _served(address: str, files: list[bytes]) -> list[Way]:
    def asking(data: list[bytes]) -> Callable[[], Callable[[], None]]:
        body = json.dumps({"images": [base64.b64encode(one).decode() for one in data]}).encode()

        def opened() -> Callable[[], None]:
            parts = urlsplit(address)
            connection = http.client.HTTPConnection(
                str(parts.hostname), parts.port, timeout=_ANSWER_LIMIT_S
            )

            def ask() -> None:
                connection.request("POST", "/predict", body, {"Content-Type": "application/json"})
                answer = connection.getresponse()
                if answer.status != http.HTTPStatus.OK:
                    raise SystemExit(f"the server answers {answer.status}: {answer.read()!r}")
                answer.read()

            return ask

        return opened

    return [
        Way("served, one image", 1, 1, asking(files[:1])),
        Way(f"served, one image, {_CROWD} clients", 1, _CROWD, asking(files[:1])),
        Way(f"served, {_BATCH} images", _BATCH, 1, asking(files)),
        Way(f"served, {_BATCH} images, 2 clients", _BATCH, 2, asking(files)),
    ]


@contextmanager
def _server(model: Path) -> Iterator[str]:
    command = [sys.executable, "-u", "-m", "graftline", "serve", "--port", "0"]
    process = subprocess.Popen(
        [*command, "--model", str(model.resolve())], stdout=subprocess.PIPE, text=True
    )
    try:
        for line in process.stdout or ():
            if found := re.search(r"page +(http://\S+)/", line):
                yield found.group(1)
                return
        raise SystemExit("the server did not start")
    finally:
        process.terminate()
        process.communicate()


def _png(image: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


def _show(ways: list[Way], options: argparse.Namespace, busy: float) -> None:
    table = Table(
        title=f"{options.model}: medians of {options.rounds} rounds, and in brackets as multiples "
        f"of the predictor's; load before: {busy:g}"
    )
    for column in ("way of asking", "images/s", "p50 ms", "p99 ms"):
        table.add_column(column, justify="left" if column.startswith("way") else "right")
    medians = {
        way.name: [statistics.median(one) for one in (way.rates, way.p50_ms, way.p99_ms)]
        for way in ways
    }
    alone, together = (medians[way.name] for way in ways[:2])
    for way in ways:
        yardstick = together if way.images > 1 else alone
        found = zip(medians[way.name], yardstick, strict=True)
        table.add_row(way.name, *(f"{one:.1f} ({one / other:.2f})" for one, other in found))
    Console().print(table)


if __name__ == "__main__":
    main()
