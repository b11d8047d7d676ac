"""News since a flow last got to its end: images, parameters, or anything that DVC calls stale.

DVC says which stages are stale. It does not know that a model still has to be registered, and it
follows no link to a folder, so two things are written down at the end of a flow: the weights that
went through all of its steps, and what the source held when it began.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any, ClassVar

from graftline.core.counts import counted
from graftline.core.params import Params
from graftline.core.records import Record, Trained
from graftline.core.stage_params import changed_params, keys_read, picked
from graftline.core.stages import STAGES
from graftline.core.workspace import Workspace
from graftline.data import fingerprint
from graftline.data.fingerprint import Difference, SourceState

_LISTED = 5
_PLACE = ("source", "path", "manifest")
"""The keys under ``data`` that say where the images are."""


class FinishedFlow(Record):
    """``var/finished.json``: the last flow that got to its end."""

    lies_at: ClassVar[str] = "var/finished.json"

    weight_digest: str
    """Of the model that went through all of its steps."""
    params: dict[str, Any]
    source_digest: str
    """Of the source when the flow began; see :class:`graftline.data.fingerprint.SourceState`."""


class News(Record):
    """What there is to train for."""

    images: str | None
    """How many files came, changed and went; None if the source holds what it held."""
    params: tuple[str, ...]
    """What changed in ``params.yaml`` that a step reads, as in ``train.epochs: 3 → 4``."""
    stale: tuple[str, ...]
    """The stages that DVC would run, as far as that can be told before any of them has run."""
    unfinished: str | None
    """Why a flow has to run although nothing changed; None if it has not."""
    forced: bool

    @property
    def anything(self) -> bool:
        """Whether there is anything to do."""
        return bool(self.forced or self.images or self.params or self.stale or self.unfinished)

    @property
    def headline(self) -> str:
        """The first reason in a few words."""
        return next(self._reasons(), "nothing new")

    def __str__(self) -> str:
        reasons = "; ".join(self._reasons())
        return reasons or "nothing new: images, parameters and code are those of the last training"

    def _reasons(self) -> Iterator[str]:
        if self.images:
            yield self.images
        yield from self.params[:_LISTED]
        if len(self.params) > _LISTED:
            yield counted(len(self.params) - _LISTED, "more parameter")
        if self.unfinished:
            yield self.unfinished
        if self.stale:
            yield f"stale: {', '.join(self.stale)}"
        if self.forced:
            yield "forced"


def news_of(
    workspace: Workspace,
    params: Params,
    source: Callable[[], SourceState],
    stale: Collection[str],
    *,
    forced: bool,
    own: Collection[str] = (),
) -> News:
    """Compares the checkout with what the last flow that got to its end left.

    Args:
        workspace: The checkout.
        params: What ``params.yaml`` holds.
        source: Tells what the source holds. It is asked only where that can be compared with
            something: a new source would have to be read whole.
        stale: The stages that DVC calls stale.
        forced: Whether every stage is to run anyway.
        own: The project's own stages that the steps wait for.
    """
    finished = last_finished(workspace)
    return News(
        images=_images(workspace, finished, params, source),
        params=tuple(_changed(workspace, finished.params, params)) if finished else (),
        stale=tuple(stage for stage in (*own, *STAGES) if stage in stale),
        unfinished=_unfinished(workspace, finished),
        forced=forced,
    )


def note_finished(workspace: Workspace, params: Params, source: SourceState) -> None:
    """Writes down that a flow got to its end.

    Args:
        workspace: The checkout.
        params: What ``params.yaml`` holds.
        source: What the source held when the flow began: what came later is news.
    """
    fingerprint.keep(source, _source_file(workspace))
    FinishedFlow(
        weight_digest=_weights(workspace) or "", params=_record(params), source_digest=source.digest
    ).write(FinishedFlow.path_in(workspace))


def last_finished(workspace: Workspace) -> FinishedFlow | None:
    """The last flow that got to its end; None if none is known here."""
    return FinishedFlow.find_in(workspace)


def _changed(workspace: Workspace, before: dict[str, Any], params: Params) -> Iterator[str]:
    """What changed of the parameters that a step of the flow reads; others are nothing to it."""
    keys = keys_read(workspace.root)
    one, other = (picked(record, keys) for record in (before, _record(params)))
    return changed_params(one, other)


def _images(
    workspace: Workspace,
    finished: FinishedFlow | None,
    params: Params,
    source: Callable[[], SourceState],
) -> str | None:
    if finished is None:
        return None
    if not is_same_place(finished, params):
        return f"images: another source, {params.data.source}"
    now = source()
    if finished.source_digest == now.digest:
        return None
    kept = fingerprint.kept(_source_file(workspace))
    if kept is None or kept.digest != finished.source_digest:
        return "images: other ones than before"
    return f"images: {Difference.between(kept, now)}"


def is_same_place(finished: FinishedFlow, params: Params) -> bool:
    """Whether the images of ``params`` lie where those of the last flow lay."""
    before, now = finished.params.get("data", {}), _record(params)["data"]
    return all(before.get(key) == now[key] for key in _PLACE)


def _unfinished(workspace: Workspace, finished: FinishedFlow | None) -> str | None:
    if finished is None:
        return "no flow has got to its end here yet"
    if _weights(workspace) != finished.weight_digest:
        return "the last model has not gone through every step"
    return None


def _weights(workspace: Workspace) -> str | None:
    trained = Trained.find_in(workspace)
    return trained.weight_digest if trained else None


def _record(params: Params) -> dict[str, Any]:
    # Whom a verdict is told to changes nothing about it.
    return params.model_dump(mode="json", by_alias=True, exclude={"notify"})


def _source_file(workspace: Workspace) -> Path:
    return workspace.var / "source" / "trained.parquet"
