"""Looks every few seconds whether another version has become what is to be served."""

from __future__ import annotations

import logging
import threading

from graftline.core.errors import GraftlineError
from graftline.core.redaction import without_secrets
from graftline.inference.serving.metrics import Counters
from graftline.inference.serving.models import ModelSlot, ModelSource

_STOP_S = 5.0
_log = logging.getLogger(__name__)


class Watcher:
    """A thread that keeps a place up to date; the registry may be away for as long as it likes.

    Args:
        source: Where to look.
        place: Where a new model goes.
        counters: What counts swaps and failures.
        every_s: Seconds between two looks.
    """

    def __init__(
        self, source: ModelSource, place: ModelSlot, counters: Counters, every_s: float
    ) -> None:
        self._source, self._place, self._counters = source, place, counters
        self._every_s = every_s
        self._stopping = threading.Event()
        self._complaint = ""
        self._thread = threading.Thread(target=self._watch, name="watcher", daemon=True)

    def start(self) -> None:
        """Begins to look, if what is served may change at all."""
        if self._source.may_change:
            self._thread.start()

    def stop(self) -> None:
        """Ends it; a look at a registry that does not answer is not waited for."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(_STOP_S)

    def look(self) -> bool:
        """Looks once, and puts a new version into the place.

        Whatever goes wrong is told once in the log and counted; the old model goes on serving.

        Returns:
            Whether a new version serves now.
        """
        try:
            served = self._place.model.version
            if self._source.key() == served.key:
                self._told("")
                return False
            model = self._source.load()
        except GraftlineError as error:
            self._failed(error.what)
            return False
        # A watcher that dies would leave the server with an old model, and nobody would know.
        except Exception as error:
            self._failed(without_secrets(f"{type(error).__name__}: {error}"))
            return False
        self._place.put(model)
        self._counters.swapped(model.version)
        self._told("")
        _log.info("%s serves now, in the place of %s", model.version, served)
        return True

    def _watch(self) -> None:
        while not self._stopping.wait(self._every_s):
            self.look()

    def _failed(self, what: str) -> None:
        self._counters.look_failed()
        self._told(what)

    def _told(self, complaint: str) -> None:
        if complaint and complaint != self._complaint:
            _log.warning("%s goes on serving: %s", self._place.model.version, complaint)
        elif self._complaint and not complaint:
            _log.info("the registry is as it should be again")
        self._complaint = complaint
