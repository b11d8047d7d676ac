"""A project from Python: run it, read what came out, and use the model; see ``docs/api.md``.

What computes runs in a process of its own: ``graftline run``, ``graftline train`` and the like.
Only such a process has the environment that decides results (:mod:`graftline.core.environment`)
and the project's own Prefect home; that of the caller, a notebook say, stays as it is.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from graftline.core.environment import ERROR_FILE_VARIABLE, PYTHON
from graftline.core.errors import GraftlineError, ProjectError, StageFailedError, error_from_json
from graftline.core.files import scratch_folder
from graftline.core.params import Params, read_params
from graftline.core.records import (
    OF_STAGE,
    Assembled,
    Dataset,
    Exports,
    FreezePlan,
    Metrics,
    Record,
    Trained,
)
from graftline.core.workspace import Workspace

if TYPE_CHECKING:
    from graftline.evaluation.predictor import Predictor
    from graftline.inference.model_choice import ChosenModel
    from graftline.inference.predict import Prediction
    from graftline.operations.status import Status
    from graftline.registry.listing import Model
    from graftline.registry.promotions import Promotion

_ENDING_S = 60.0
"""How long an interrupted flow may take to close its run in Prefect and MLflow."""


class Project:
    """A project on this machine.

    Nothing is read before it is asked for, and everything is read anew each time, so that a
    project may run elsewhere meanwhile.

    Args:
        path: The project's folder, where ``params.yaml`` and ``dvc.yaml`` lie.

    Attributes:
        workspace: Where everything lies, by the name of the step that writes it.

    Raises:
        ProjectError: If the folder is no project.
    """

    def __init__(self, path: str | os.PathLike[str] = ".") -> None:
        root = Path(path).expanduser().resolve()
        missing = [name for name in ("params.yaml", "dvc.yaml") if not (root / name).is_file()]
        if missing:
            raise ProjectError(
                f"this folder is no project: it has no {' and no '.join(missing)}",
                where=str(root),
                fix="name the folder of a project, where params.yaml and dvc.yaml lie",
            )
        self.workspace = Workspace(root)

    def __repr__(self) -> str:
        return f"Project({str(self.workspace.root)!r})"

    @property
    def params(self) -> Params:
        """The parameters of ``params.yaml``, checked.

        Raises:
            ParamsError: If they are not valid.
        """
        return read_params(self.workspace.params_file)

    def run(
        self,
        changes: Mapping[str, object] | None = None,
        *,
        params_file: str | os.PathLike[str] | None = None,
        force: bool = False,
        wait_s: float = 0.0,
    ) -> Promotion:
        """Runs what is stale of the pipeline, as ``graftline run`` does, and shows it.

        Args:
            changes: Values by dotted key, as in ``{"train.epochs": 3}``. They are written to
                ``params.yaml`` and stay there, as those of ``--set`` do.
            params_file: Takes the place of ``params.yaml`` first.
            force: Whether every stage runs, stale or not.
            wait_s: How long to wait for another process that holds the pipeline, in seconds.

        Returns:
            The receipt: the version that was registered, and whether it is the champion now.

        Raises:
            GraftlineError: What ended the run; its process has told of it too.
        """
        from graftline.registry.promotions import Promotion

        words = ["-m", "graftline", "run", "--wait", f"{wait_s:g}"]
        if params_file is not None:
            words += ["--params", str(Path(params_file).expanduser().absolute())]
        for key, value in (changes or {}).items():
            # JSON is YAML too.
            words += ["--set", f"{key}={value if isinstance(value, str) else json.dumps(value)}"]
        self._run(*words, *(["--force"] if force else []))
        return Promotion.read_in(self.workspace)

    def run_step(self, step: str) -> Record:
        """Runs one step by itself, as ``graftline train`` and the like do, stale or not.

        Args:
            step: Its name, ``load`` to ``export``.

        Returns:
            The step's record.

        Raises:
            GraftlineError: What ended the step.
        """
        record = OF_STAGE.get(step)
        if record is None:
            raise ProjectError(
                f"there is no step {step!r} that runs by itself", allowed=", ".join(OF_STAGE)
            )
        self._run("-m", "graftline", step)
        return record.read_in(self.workspace)

    def status(self) -> Status:
        """What is current, what would run and why, and what came out last."""
        from graftline.operations.status import status

        return status(self.workspace)

    @property
    def dataset(self) -> Dataset:
        """What ``load`` found: classes, counts by split, duplicates.

        Raises:
            MissingOutputError: As each of the records below, if its step has not run yet.
        """
        return Dataset.read_in(self.workspace)

    @property
    def assembled(self) -> Assembled:
        """What ``assemble`` built: backbone, cut, layers."""
        return Assembled.read_in(self.workspace)

    @property
    def freeze_plan(self) -> FreezePlan:
        """Which layers train, and why."""
        return FreezePlan.read_in(self.workspace)

    @property
    def trained(self) -> Trained:
        """What ``train`` ended with: the best epoch, validation accuracy, digests."""
        return Trained.read_in(self.workspace)

    @property
    def metrics(self) -> Metrics:
        """The test metrics, with those of each class."""
        return Metrics.read_in(self.workspace)

    @property
    def exports(self) -> Exports:
        """The model in other formats, and how near to it they are."""
        return Exports.read_in(self.workspace)

    @property
    def promotion(self) -> Promotion:
        """The receipt of the last decision on a champion."""
        from graftline.registry.promotions import Promotion

        return Promotion.read_in(self.workspace)

    def models(self) -> list[Model]:
        """The versions in the registry, the newest first, with what became of each.

        Raises:
            TrackingError: If the registry cannot be used.
        """
        from graftline.registry.listing import models

        return models(self.workspace)

    def which_model(self, which: str | os.PathLike[str] | None = None) -> ChosenModel:
        """Which model predicts, by the rule of every door; its files are brought here.

        Args:
            which: An alias (``champion``, ``challenger``), a version's number, or a model's folder;
                by default the champion, and where there is none the last trained model.

        Raises:
            MissingOutputError: If there is no such model.
            TrackingError: If the registry cannot be used.
        """
        from graftline.inference.model_choice import choose_model

        if isinstance(which, os.PathLike):
            which = str(Path(which).absolute())
        return choose_model(self.workspace, which)

    def model(self, which: str | os.PathLike[str] | None = None) -> Predictor:
        """A model from the registry or a folder, ready to predict arrays.

        Args:
            which: See :meth:`which_model`.

        Returns:
            It keeps two threads; ``close()``, or ``with``, ends them.

        Raises:
            MissingOutputError: If there is no such model.
            TrackingError: If the registry cannot be used.
        """
        from graftline.evaluation.predictor import Predictor

        return Predictor(Path(self.which_model(which).folder))

    def predict(
        self,
        files: Iterable[str | os.PathLike[str]],
        which: str | os.PathLike[str] | None = None,
        left_out: Counter[str] | None = None,
    ) -> Iterator[Prediction]:
        """Names what is on image files; one that cannot be read does not stop the others.

        Args:
            files: Image files, folders, tables and patterns, as ``graftline predict`` takes them.
            which: The model; see :meth:`which_model`.
            left_out: Counts the files in folders that are no images, by the ending of their names.

        Yields:
            One prediction per file, in order.

        Raises:
            MissingOutputError: If there is no such model.
            TrackingError: If the registry cannot be used.
        """
        from graftline.inference.predict import predict

        named = [os.fspath(file) for file in files]
        folder = Path(self.which_model(which).folder)
        yield from predict(named, self.workspace, folder, left_out)

    def _run(self, *words: str) -> None:
        """Runs a process of Graftline's, which prints where this one does."""
        with scratch_folder() as folder:
            told = folder / "error.json"
            # Python itself reads some of them before the process can put them in order.
            environment = {name: text for name, text in os.environ.items() if name not in PYTHON}
            process = subprocess.Popen(
                [sys.executable, *words],
                cwd=self.workspace.root,
                env=environment | {ERROR_FILE_VARIABLE: str(told)},
                stdin=subprocess.DEVNULL,
                # An interrupt of the terminal reaches this process alone, which passes it on once.
                process_group=0,
            )
            try:
                code = process.wait()
            except BaseException:
                _interrupt(process)
                raise
            if code:
                raise _failure(told, code, words)


def _interrupt(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGINT)
    try:
        process.wait(_ENDING_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _failure(told: Path, code: int, words: tuple[str, ...]) -> GraftlineError:
    try:
        return error_from_json(told.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        how = f"was ended by signal {-code}" if code < 0 else f"failed with exit code {code}"
        return StageFailedError(f"python {' '.join(words)} {how}; it has printed why")
