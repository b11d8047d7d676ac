"""The figures of ``/metrics``, for Prometheus."""

from __future__ import annotations

from collections.abc import Callable

import prometheus_client
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from graftline.inference.serving.models import ModelVersion

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_IMAGES = (1, 2, 4, 8, 16, 32, 64, 128)


class Counters:
    """Counts what a server does; each server has its own."""

    def __init__(self) -> None:
        self._registry = registry = prometheus_client.CollectorRegistry()
        prometheus_client.ProcessCollector(registry=registry)
        self._requests = prometheus_client.Counter(
            "graftline_requests", "Requests answered.", ["path", "status"], registry=registry
        )
        self._seconds = prometheus_client.Histogram(
            "graftline_request_seconds",
            "From a request's first byte to its answer's last.",
            ["path"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._images = prometheus_client.Counter(
            "graftline_images",
            "Images that got an answer (answered) or a reason why not (refused).",
            ["outcome"],
            registry=registry,
        )
        self._run_images = prometheus_client.Histogram(
            "graftline_run_images",
            "Images that were run together, from one request or several.",
            buckets=_IMAGES,
            registry=registry,
        )
        self._waiting = prometheus_client.Gauge(
            "graftline_requests_waiting",
            "Requests that no worker has taken yet.",
            registry=registry,
        )
        self._under_way = prometheus_client.Gauge(
            "graftline_requests_under_way",
            "Requests that are read, waiting or computed.",
            registry=registry,
        )
        self._model = prometheus_client.Info(
            "graftline_model", "The model that answers now.", registry=registry
        )
        self._swaps = prometheus_client.Counter(
            "graftline_model_swaps", "New versions that took the place of one.", registry=registry
        )
        self._failed_looks = prometheus_client.Counter(
            "graftline_registry_failures",
            "Looks for a new version that failed; the old one goes on serving.",
            registry=registry,
        )

    def ask(self, waiting: Callable[[], int], under_way: Callable[[], int]) -> None:
        """Tells where the lengths of queues are found when they are asked for.

        Args:
            waiting: Requests that no worker has taken yet.
            under_way: Requests that are read, waiting or computed.
        """
        self._waiting.set_function(waiting)
        self._under_way.set_function(under_way)

    def serves(self, version: ModelVersion) -> None:
        """Tells which model answers."""
        self._model.info(
            {
                "name": version.name,
                "version": version.version or "",
                "weight_digest": version.weight_digest,
            }
        )

    def swapped(self, version: ModelVersion) -> None:
        """A new model answers from now on."""
        self._swaps.inc()
        self.serves(version)

    def look_failed(self) -> None:
        """The registry could not be asked, or what it names not be loaded."""
        self._failed_looks.inc()

    def answered(self, path: str, status: int, seconds: float) -> None:
        """A request was answered."""
        self._requests.labels(path, str(status)).inc()
        self._seconds.labels(path).observe(seconds)

    def predicted(self, answered: int, refused: int) -> None:
        """Images of one request."""
        self._images.labels("answered").inc(answered)
        self._images.labels("refused").inc(refused)

    def ran(self, images: int) -> None:
        """Images that were run together."""
        self._run_images.observe(images)

    def count(self, name: str, **labels: str) -> float:
        """A count so far, 0 if there is none yet."""
        return self._registry.get_sample_value(name, labels) or 0.0

    def text(self) -> bytes:
        """All of it, as Prometheus reads it."""
        return prometheus_client.generate_latest(self._registry)
