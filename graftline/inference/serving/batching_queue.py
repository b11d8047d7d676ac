"""The queue of requests, and the threads that decode their images and run the model on them.

Small requests that wait are run together, since the model runs a few images at once in hardly more
time than one. No answer depends on its company: the model's outputs are the same bit for bit
whatever the batch (:mod:`graftline.network.runners.litert`).
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from http import HTTPStatus

from graftline.compute.cores import available_cores
from graftline.core.errors import DataError
from graftline.data.decoding import Pixels, decode, pixels_in
from graftline.data.resize import shrink
from graftline.evaluation.predictor import Predictor
from graftline.inference.predict import Prediction
from graftline.inference.serving.limits import (
    BYTES_PER_PX,
    RETRY_AFTER_S,
    Limits,
    RefusedRequestError,
    Room,
)
from graftline.inference.serving.metrics import Counters
from graftline.inference.serving.models import ModelSlot, ModelVersion

_TOGETHER_IMAGES = 16
_TOGETHER_BYTES = 1 << 20
"""What is run together: more would let a small request wait for a large one."""


@dataclass(frozen=True)
class Sent:
    """One image of a request, as it was sent.

    Args:
        name: The file's, or the place in the request.
        data: The file's bytes; empty if there is an error.
        error: Why there are none.
    """

    name: str
    data: bytes
    error: str | None = None


@dataclass(frozen=True)
class Answer:
    """One prediction per image, in order, all by one model."""

    model: ModelVersion
    predictions: tuple[Prediction, ...]


@dataclass(frozen=True, eq=False)
class _Job:
    images: Sequence[Sent]
    until_s: float
    future: Future[Answer] = field(default_factory=Future)

    @property
    def size_bytes(self) -> int:
        return sum(len(image.data) for image in self.images)


class Desk:
    """Takes requests and has them answered, the oldest first.

    Args:
        place: Whose model answers.
        limits: The largest image, and the time that a request may take.
        counters: What counts the images that are run together.
        workers: Threads; by default one per core.
    """

    def __init__(
        self, place: ModelSlot, limits: Limits, counters: Counters, workers: int | None = None
    ) -> None:
        self._place, self._limits, self._counters = place, limits, counters
        self._room = Room()
        self._jobs: deque[_Job] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._threads = [
            threading.Thread(target=self._work, name=f"desk-{number}", daemon=True)
            for number in range(workers or available_cores())
        ]

    def start(self) -> None:
        """Lets the workers begin."""
        for thread in self._threads:
            thread.start()

    @property
    def waiting(self) -> int:
        """Requests that no worker has taken yet."""
        return len(self._jobs)

    @property
    def works(self) -> bool:
        """Whether what is submitted will be answered."""
        return not self._closed and all(thread.is_alive() for thread in self._threads)

    def submit(self, images: Sequence[Sent], until_s: float) -> Future[Answer]:
        """Puts a request at the end of the queue.

        Args:
            images: The request's.
            until_s: When it is given up, on the clock of ``time.monotonic``.

        Returns:
            What becomes the answer, or a :class:`RefusedRequestError`.
        """
        job = _Job(images, until_s)
        with self._changed:
            if self._closed:
                job.future.set_exception(_stopping())
                return job.future
            self._jobs.append(job)
            self._changed.notify()
        return job.future

    def close(self) -> None:
        """Answers what is in the queue, and ends the workers."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            if thread.is_alive():
                thread.join()

    def _work(self) -> None:
        while jobs := self._next():
            try:
                self._answer(jobs)
            # What is not foreseen is one request's error and not the worker's end.
            except Exception as error:
                for job in jobs:
                    if not job.future.done():
                        job.future.set_exception(error)

    def _next(self) -> list[_Job]:
        """The oldest request, and those behind it that go with it; nothing at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._jobs or self._closed)
            if not self._jobs:
                return []
            jobs = [self._jobs.popleft()]
            images, size_bytes = len(jobs[0].images), jobs[0].size_bytes
            while self._jobs:
                images += len(self._jobs[0].images)
                size_bytes += self._jobs[0].size_bytes
                if images > _TOGETHER_IMAGES or size_bytes > _TOGETHER_BYTES:
                    break
                jobs.append(self._jobs.popleft())
            return jobs

    def _answer(self, jobs: Sequence[_Job]) -> None:
        # A client that has gone, or waited too long, has its request cancelled.
        jobs = [job for job in jobs if job.future.set_running_or_notify_cancel()]
        with self._place.taken() as model:
            read: list[tuple[_Job, list[Pixels | str]]] = []
            for job in jobs:
                try:
                    read.append((job, self._read(job, model.predictor)))
                except RefusedRequestError as error:
                    job.future.set_exception(error)
            pixels = [one for _, images in read for one in images if not isinstance(one, str)]
            rows = iter(model.predictor.probabilities(pixels))
            if pixels:
                self._counters.ran(len(pixels))
            for job, images in read:
                job.future.set_result(
                    Answer(
                        model.version,
                        tuple(
                            Prediction(sent.name, {}, one)
                            if isinstance(one, str)
                            else Prediction.of(sent.name, model.predictor.classes, next(rows))
                            for sent, one in zip(job.images, images, strict=True)
                        ),
                    )
                )

    def _read(self, job: _Job, predictor: Predictor) -> list[Pixels | str]:
        """Each image's pixels, shrunk, so that no more than one large image is held."""
        images: list[Pixels | str] = []
        for sent in job.images:
            try:
                if time.monotonic() > job.until_s:
                    raise TimeoutError
                if sent.error is not None:
                    raise DataError(sent.error)
                images.append(self._decoded(sent.data, predictor, job.until_s))
            except DataError as error:
                images.append(error.what)
            except TimeoutError:
                where = f"after {len(images)} of {len(job.images)} images"
                raise too_slow(self._limits, where) from None
        return images

    def _decoded(self, data: bytes, predictor: Predictor, until_s: float) -> Pixels:
        asked = self._limits.image_px, "--max-image-px"
        with self._room.held(pixels_in(data, *asked) * BYTES_PER_PX, until_s) as fits:
            if not fits:
                raise TimeoutError
            return shrink(decode(data, *asked, predictor.white), predictor.size_px)


def too_slow(limits: Limits, where: str) -> RefusedRequestError:
    """The error of a request that was not answered in time."""
    return RefusedRequestError(
        HTTPStatus.SERVICE_UNAVAILABLE,
        f"the request was not answered within {limits.time_s:g} s",
        where=where,
        fix="send fewer or smaller images at once, or send it again later",
        retry_after_s=RETRY_AFTER_S,
    )


def _stopping() -> RefusedRequestError:
    return RefusedRequestError(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "the server is stopping",
        fix="send it again to the server that comes after it",
        retry_after_s=RETRY_AFTER_S,
    )
