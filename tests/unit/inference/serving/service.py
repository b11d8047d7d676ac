"""A service on the model whose answers can be worked out by hand, asked over HTTP."""

from __future__ import annotations

import base64
import io
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import requests
import uvicorn
from numpy.typing import NDArray
from PIL import Image

from graftline.core.workspace import Workspace
from graftline.inference.serving.app import Service, application
from graftline.inference.serving.batching_queue import Desk
from graftline.inference.serving.champion_watcher import Watcher
from graftline.inference.serving.limits import Limits
from graftline.inference.serving.metrics import Counters
from graftline.inference.serving.models import ModelSlot, ModelSource, NamedSource

LIMIT_S = 60


def _session() -> requests.Session:
    session = requests.Session()
    session.trust_env = False
    return session


@dataclass(frozen=True)
class Client:
    """Asks a server on this machine, over connections that it keeps."""

    address: str
    session: requests.Session = field(default_factory=_session)

    def request(self, method: str, path: str, **rest: Any) -> requests.Response:
        return self.session.request(method, self.address + path, timeout=LIMIT_S, **rest)

    def get(self, path: str, **rest: Any) -> requests.Response:
        return self.request("GET", path, **rest)

    def post(self, path: str, **rest: Any) -> requests.Response:
        return self.request("POST", path, **rest)


@contextmanager
def asked(
    folder: Path, source: ModelSource | None = None, workers: int = 2, **limits: Any
) -> Iterator[tuple[Client, Service]]:
    """A client and the service that it asks."""
    source = source or NamedSource(Workspace(folder), str(folder))
    place, counters, sizes = ModelSlot(source.load()), Counters(), Limits(**limits)
    service = Service(
        place,
        sizes,
        counters,
        Desk(place, sizes, counters, workers),
        Watcher(source, place, counters, every_s=0.05),
    )
    with served(application(service)) as address:
        client = Client(address)
        with client.session:
            yield client, service


@contextmanager
def served(app: Any, **settings: Any) -> Iterator[str]:
    """The address of an application that is served from a thread, with uvicorn's settings."""
    started = threading.Event()

    class Announcing(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            started.set()

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        settings = {"log_config": None, "ws": "none", "timeout_graceful_shutdown": 20, **settings}
        config = uvicorn.Config(app, **settings)
        server = Announcing(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            assert started.wait(LIMIT_S)
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(LIMIT_S)


def encoded(image: NDArray[np.uint8], kind: str = "PNG") -> bytes:
    """The image as a file."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, kind)
    return file.getvalue()


def in_base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def form(*images: bytes) -> list[tuple[str, tuple[str, bytes]]]:
    """The files of a form, with names."""
    return [("image", (f"{place}.png", data)) for place, data in enumerate(images)]
