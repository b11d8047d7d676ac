"""One execution of the pipeline: who holds the checkout, what is stale, and which run it tells."""

from __future__ import annotations

import datetime
import logging
import os
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeVar

from graftline.core.backbone_cuts import check_cut
from graftline.core.code_lock import lock_code
from graftline.core.counts import counted
from graftline.core.environment import HELD_BY_VARIABLE, RUN_ID_VARIABLE
from graftline.core.errors import DataError, GraftlineError, ParamsError
from graftline.core.locks import pipeline_lock
from graftline.core.params import Params
from graftline.core.repository import check_repository
from graftline.core.stage_params import refuse_changed, refuse_recorded_otherwise
from graftline.core.timings import Timings
from graftline.core.workspace import Workspace
from graftline.data.fingerprint import (
    SourceState,
    is_loaded,
    loaded_state,
    note_loaded,
    source_state,
)
from graftline.operations import finished_training
from graftline.operations.borrowed_params import put_back_abandoned
from graftline.operations.changes import News, is_same_place, last_finished, news_of, note_finished
from graftline.operations.dvc_repair import put_torn_aside
from graftline.operations.leftovers import remove_leftovers
from graftline.operations.stage_runner import TRACKED
from graftline.orchestration import dvc
from graftline.orchestration.overrides import plan_completion
from graftline.orchestration.screen import Screen, State

T = TypeVar("T")

_log = logging.getLogger(__name__)
_STATES: dict[dvc.Doing, State] = {
    "executed": "executed",
    "restored": "restored",
    "unchanged": "cached",
}


@dataclass
class Pipeline:
    """An execution that holds the checkout.

    Args:
        workspace: The checkout.
        params: What its ``params.yaml`` holds.
        screen: The terminal.
        force: Whether every stage runs, stale or not.
        timings: Where the seconds of this process go.
    """

    workspace: Workspace
    params: Params
    screen: Screen = field(default_factory=Screen)
    force: bool = False
    timings: Timings = field(default_factory=Timings)
    task_run_ids: list[str] = field(default_factory=list)
    flow_run_id: str | None = None
    _pool: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(4))
    _staleness: Future[dvc.Staleness] | None = None
    _source: Future[SourceState] | None = None
    _run: Future[str] | None = None
    _changed: bool = False
    _ran: set[str] = field(default_factory=set)

    def look(self) -> None:
        """Starts asking DVC what is stale, and looking at what the source holds.

        A source that there is nothing to compare with is left to ``load``, which reads it anyway.
        """
        if self._staleness is None:
            self._staleness = self._pool.submit(dvc.staleness, self.workspace)
            self._staleness.add_done_callback(self._make_ready)
            finished = last_finished(self.workspace)
            if finished is not None and is_same_place(finished, self.params):
                self._look_at_source()

    def own_before(self, step: str) -> tuple[str, ...]:
        """The project's own stages that a step waits for, and that have not run yet."""
        return tuple(name for name in self._known().own.get(step, ()) if name not in self._ran)

    @property
    def news(self) -> News:
        """What there is to train for; waits until it is known.

        Raises:
            DataError: If the source cannot be used.
            GraftlineError: If DVC cannot tell what is stale.
        """
        known = self._known()
        own = [name for names in known.own.values() for name in names]
        return news_of(
            self.workspace, self.params, self._source_state, known.stale, forced=self.force, own=own
        )

    def note_finished(self) -> None:
        """Writes down that every step has come to its end, and with which images it began."""
        note_finished(self.workspace, self.params, self._source_state())

    def track(self) -> None:
        """Starts opening the tracked run."""
        if self._run is None:
            self._run = self._pool.submit(_open_run, self.workspace, self.params)

    @property
    def run_id(self) -> str:
        """The tracked run's id; waits until it is open.

        Raises:
            TrackingError: If the store cannot be used.
        """
        self.track()
        return self._result(self._run)

    @property
    def log_folder(self) -> Path:
        """Where what the stages print is kept."""
        return self.workspace.var / "logs" / self._name

    @property
    def cached(self) -> tuple[str, ...]:
        """The stages that had nothing to do."""
        return tuple(end.step for end in self.screen.ends if end.state == "cached")

    def run_stage(self, stage: str, silence_s: float, on_line: Callable[[str], None]) -> State:
        """Has DVC run a stage, unless nothing that it depends on has changed.

        Args:
            stage: Its name.
            silence_s: How long it may give no sign of life, in seconds.
            on_line: Told what it prints.

        Raises:
            GraftlineError: If it fails; see :func:`graftline.orchestration.dvc.reproduce`.
            ParamsError: If ``params.yaml`` does not hold any more what the run began with, as far
                as the stage reads it.
        """
        self._raise_early()
        self._ran.add(stage)
        force = self.force or (stage == "load" and self._unseen())
        # Even if every stage is forced: DVC may be fetching outputs still.
        known = self._known()
        if not (force or self._changed or stage in known.stale):
            return "restored" if stage in known.restored else "cached"
        refuse_changed(self.workspace, stage, self.params)
        environment = {HELD_BY_VARIABLE: str(os.getpid())}
        if stage in TRACKED:
            environment[RUN_ID_VARIABLE] = self.run_id
        log_file = self.log_folder / f"{stage.replace('/', '-')}.log"
        command = dvc.StageCommand(stage, log_file, environment, force, silence_s)
        doing = dvc.reproduce(self.workspace, command, on_line, self._standby)
        finished_training.forget_if_recorded(self.workspace)
        # Between the stage's own look and DVC's there is a moment.
        refuse_recorded_otherwise(self.workspace, stage, self.params)
        if stage == "load":
            self._note_loaded(doing)
        # Only a stage after a changed one can be stale without DVC's having said so before.
        self._changed = self._changed or doing != "unchanged"
        if doing != "unchanged" and "load" not in self._ran:
            # What load is about to read is what this stage has made.
            self._source = None
        return _STATES[doing]

    def other_classes(self, classes: Collection[str]) -> str | None:
        """Says before a training that its model cannot take the champion's place.

        Args:
            classes: Of the data.

        Returns:
            What was said; None where the champion knows the same classes, or there is none, or
            nothing is to be trained.
        """
        from graftline.registry.class_sets import foretold

        if not (self.force or self._changed or "train" in self._known().stale):
            return None
        told = foretold(self.workspace, self.params.register_.model_name, classes)
        if told is not None:
            self.screen.say(told)
        return told

    def complete(self, error: BaseException | None) -> None:
        """Closes the tracked run with what it still lacks, unless that is done.

        Raises:
            TrackingError: If the store cannot be used, and nothing else went wrong before.
        """
        if self._run is None:
            return
        from graftline.registry.tracking import complete_run, note_flow_run

        opened, self._run = self._run, None
        status = _status_of(error)
        try:
            complete_run(
                opened.result(), self.workspace, self.params, cached=self.cached, status=status
            )
            note_flow_run(self.workspace, opened.result(), self.flow_run_id)
        except GraftlineError as second:
            if error is None:
                raise
            if second is not error:
                _log.warning("the tracked run could not be closed: %s", second)

    def close(self) -> None:
        """Waits for what goes on beside the flow."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._standby.close()

    def __post_init__(self) -> None:
        self._standby = dvc.standby(self.workspace)
        now = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
        self._name = f"{now}-{os.getpid()}"

    def _make_ready(self, known: Future[dvc.Staleness]) -> None:
        """Has a DVC process wait for the first stage that is to run."""
        if known.cancelled() or known.exception():
            return
        if self.force or known.result().stale:
            self._standby.prepare()

    def _look_at_source(self) -> Future[SourceState]:
        if self._source is None:
            self._source = self._pool.submit(self._source_now)
        return self._source

    def _source_state(self) -> SourceState:
        return self._result(self._look_at_source())

    def _note_loaded(self, doing: dvc.Doing) -> None:
        if doing != "executed":
            note_loaded(self.workspace, self._source_state())
        elif (loaded := loaded_state(self.workspace)) is not None:
            # What came while it read is news for the next flow.
            self._source = Future()
            self._source.set_result(loaded)

    def _source_now(self) -> SourceState:
        try:
            return source_state(self.workspace, self.params.data)
        except DataError:
            if not self._known().own.get("load"):
                raise
            # A stage of the project's own makes it first.
            return SourceState({})

    def _known(self) -> dvc.Staleness:
        self.look()
        return self._result(self._staleness)

    def _unseen(self) -> bool:
        """Whether there are images that DVC does not see, as it follows no link to a folder."""
        if "load" in self._known().stale:
            return False
        loaded = is_loaded(self.workspace, self._source_state())
        # Outputs that came from DVC's cache, into a new checkout: only flows can tell of a change.
        return bool(self.news.images) if loaded is None else not loaded

    def _raise_early(self) -> None:
        # A history that cannot be written is better known before an hour of training.
        if self._run is not None and self._run.done():
            self._run.result()

    @staticmethod
    def _result(future: Future[T] | None) -> T:
        if future is None:
            raise RuntimeError("nothing was begun")
        return future.result()


_current: Pipeline | None = None


def current() -> Pipeline:
    """The execution that this process is in.

    Raises:
        RuntimeError: If a task is called outside a flow.
    """
    if _current is None:
        raise RuntimeError("a step's task runs inside a flow, which opens the pipeline")
    return _current


@contextmanager
def prepared(
    workspace: Workspace,
    params: Callable[[], Params],
    screen: Screen,
    *,
    wait_s: float = 0.0,
    force: bool = False,
    timings: Timings | None = None,
) -> Iterator[Pipeline]:
    """Holds the checkout, and begins what a flow needs while Prefect is being imported.

    Args:
        workspace: The checkout.
        params: Reads ``params.yaml``; called once, when the checkout is held: a run that waits for
            it must not go by what stood there before.
        screen: The terminal.
        wait_s: How long to wait for another holder, in seconds.
        force: Whether every stage is to run, stale or not.
        timings: Where the seconds of this process go.

    Raises:
        PipelineBusyError: If another process holds the pipeline.
        RepositoryError: If git or DVC cannot be used here.
    """
    global _current
    check_repository(workspace.root)
    with pipeline_lock(workspace, wait_s, on_wait=screen.say):
        if orphan := dvc.end_orphans(workspace):
            screen.say(f"stage {orphan} was still at work for a flow that is gone; it was ended")
        if left := remove_leftovers(workspace):
            screen.say(f"removed {counted(len(left), 'file')} that a killed process had left")
        for name in put_torn_aside(workspace):
            screen.say(
                f"{name} is not whole (cut off, or damaged); it lies in var/torn/ now, and results "
                "come from DVC's cache"
            )
        if said := put_back_abandoned(workspace):
            screen.say(f"a run with --once was killed: {said}")
        if changed := lock_code(workspace):
            screen.say(f"graftline.lock: the code of {', '.join(changed)} has changed")
        pipeline = Pipeline(workspace, params(), screen, force, timings or Timings())
        check_cut(pipeline.params.backbone)
        pipeline.look()
        _current = pipeline
        try:
            yield pipeline
        except BaseException as error:
            # The run may be open although the flow never began, for want of a server.
            pipeline.complete(error)
            raise
        finally:
            _current = None
            pipeline.close()


@contextmanager
def held(*, wait_s: float = 0.0, force: bool = False) -> Iterator[Pipeline]:
    """What :func:`prepared` began, or a new execution of what ``params.yaml`` holds.

    Args:
        wait_s: How long to wait for another holder, in seconds.
        force: Whether every stage is to run, stale or not.

    Raises:
        ParamsError: If ``params.yaml`` is not valid.
        PipelineBusyError: If another process holds the pipeline.
    """
    if _current is not None:
        yield _current
        return
    workspace, screen = Workspace.here(), Screen()

    def params() -> Params:
        # A deployment's flow meets a file from before an upgrade as well as any other does.
        return plan_completion(workspace).write_and_tell(workspace, screen.say)

    with prepared(workspace, params, screen, wait_s=wait_s, force=force) as pipeline:
        yield pipeline


@contextmanager
def opened(params: Params | None = None) -> Iterator[Pipeline]:
    """The execution of a flow: what :func:`held` gives, with a tracked run.

    Args:
        params: What ``params.yaml`` must hold; None takes what it holds.

    Raises:
        ParamsError: If ``params.yaml`` is not valid, or holds something else.
        PipelineBusyError: If another process holds the pipeline.
        TrackingError: If the tracking store cannot be used.
    """
    with held() as pipeline:
        _refuse_others(pipeline, params)
        with _tracked(pipeline):
            yield pipeline


def _refuse_others(pipeline: Pipeline, params: Params | None) -> None:
    if params is not None and params != pipeline.params:
        raise ParamsError(
            "the flow was given other parameters than params.yaml holds, which DVC reads",
            where=str(pipeline.workspace.params_file),
            fix="start it by python -m flows.train --set key=value, which writes them there",
        )


@contextmanager
def _tracked(pipeline: Pipeline) -> Iterator[None]:
    from prefect.runtime import flow_run

    pipeline.flow_run_id = str(flow_run.id)
    pipeline.track()
    try:
        yield
    except BaseException as error:
        pipeline.complete(error)
        raise
    else:
        pipeline.complete(None)
        pipeline.note_finished()


def _status_of(error: BaseException | None) -> Literal["FINISHED", "FAILED", "KILLED"]:
    if error is None:
        return "FINISHED"
    return "FAILED" if isinstance(error, Exception) else "KILLED"


def _open_run(workspace: Workspace, params: Params) -> str:
    from graftline.registry.tracking import open_run

    return open_run(workspace, params, door="flow")
