"""``graftline compare``: two models side by side, by their parameters, metrics and answers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from graftline.core.errors import MissingOutputError, ParamsError
from graftline.core.files import scratch_folder
from graftline.core.params import read_params
from graftline.core.records import Metrics, Record, Trained
from graftline.core.stage_params import params_as_used
from graftline.core.workspace import Workspace
from graftline.evaluation import answers
from graftline.evaluation.answers import Answers
from graftline.evaluation.comparison import Paired, pair
from graftline.inference.model_choice import find_model, names_a_folder
from graftline.registry import tracking
from graftline.registry.tracking.run_contents import test_metrics as metrics_of
from graftline.registry.tracking.runs import param_text

_RUN_ID = re.compile(r"[0-9a-f]{32}")
_LEVEL = 0.05
"""Of the paired test, where ``promote.significance`` is not set."""
_ANSWERS = f"evaluation/{answers.FILE}"


class Side(Record):
    """One of the two."""

    name: str
    run_id: str | None
    """Null for a folder."""
    weight_digest: str | None
    has_params: bool
    """Whether its parameters are known; those of a folder from elsewhere are not."""


class SideBySide(Record):
    """What ``graftline compare A B`` tells."""

    a: Side
    b: Side
    params: dict[str, tuple[str | None, str | None]]
    """Those that differ, by dotted key: of A and of B; null where one is not known."""
    metrics: dict[str, tuple[float | None, float | None]]
    """All that either has."""
    paired: Paired | None
    """B (the challenger in its fields) against A, on the test images that both have answered."""
    not_paired: str | None
    """Why there is no such test, in words."""


@dataclass(frozen=True)
class _Model:
    side: Side
    params: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    answers: Answers | None = None


def side_by_side(workspace: Workspace, a: str, b: str) -> SideBySide:
    """Compares two models.

    Args:
        workspace: Whose history is asked, and whose test split a folder's model answers.
        a: A version's number, an alias, a run's id, or a model's folder.
        b: Another.

    Raises:
        MissingOutputError: If there is no such model.
        ParamsError: If ``params.yaml`` is not valid.
        TrackingError: If the history cannot be used.
    """
    one, other = _model(workspace, a), _model(workspace, b)
    paired, why = _paired(workspace, one.answers, other.answers)
    return SideBySide(
        a=one.side,
        b=other.side,
        params={
            key: (one.params.get(key), other.params.get(key))
            for key in sorted({*one.params, *other.params})
            if one.params.get(key) != other.params.get(key)
        }
        if one.params and other.params
        else {},
        metrics={
            key: (one.metrics.get(key), other.metrics.get(key))
            for key in sorted({*one.metrics, *other.metrics})
        },
        paired=paired,
        not_paired=why,
    )


def _model(workspace: Workspace, which: str) -> _Model:
    if names_a_folder(which):
        return _of_folder(workspace, Path(which))
    if _RUN_ID.fullmatch(which):
        return _of_run(workspace, which)
    found = find_model(workspace, which, option="").found
    if isinstance(found, Path):
        return _of_folder(workspace, found)
    told = ", ".join(sorted(found.aliases))
    name = f"{found.name} version {found.version}" + (f" ({told})" if told else "")
    return _of_run(workspace, found.run_id, name, found.weight_digest)


def _of_run(
    workspace: Workspace, run_id: str, name: str | None = None, digest: str | None = None
) -> _Model:
    run = tracking.find_run(workspace, run_id)
    if run is None:
        raise MissingOutputError(
            f"the history has no run {run_id}",
            where=tracking.configure(workspace).shown,
            fix="graftline models --json names the run of each version, make ui shows them all",
        )
    side = Side(
        name=name or f"run {run.name}",
        run_id=run_id,
        weight_digest=digest or run.tags.get("graftline.weight_digest"),
        has_params=bool(run.params),
    )
    with scratch_folder() as folder:
        path = tracking.fetch_from_run(workspace, run_id, _ANSWERS, folder, side.weight_digest)
        try:
            found = None if path is None else answers.read_answers(path)
        except MissingOutputError:
            found = None
    return _Model(side, run.params, run.metrics, found)


def _of_folder(workspace: Workspace, folder: Path) -> _Model:
    digest = Trained.read(folder / Trained.file_name()).weight_digest
    own = Trained.find_in(workspace)
    is_own = own is not None and own.weight_digest == digest
    side = Side(name=str(folder), run_id=None, weight_digest=digest, has_params=is_own)
    try:
        found = answers.ask(folder, workspace)
    except MissingOutputError:
        # Without the images nothing can be asked of it.
        found = None
    if not is_own:
        accuracy = {} if found is None else {"test_accuracy": float(found.right.mean())}
        return _Model(side, {}, accuracy, found)
    params = read_params(workspace.params_file)
    # Where that cannot be told, they are those that stand in the file now.
    with suppress(ParamsError):
        params = params_as_used(workspace, "export", params)

    metrics = Metrics.find_in(workspace)
    return _Model(
        side,
        {key: param_text(value) for key, value in params.flat().items()},
        {} if metrics is None else metrics_of(metrics),
        found,
    )


def _paired(
    workspace: Workspace, a: Answers | None, b: Answers | None
) -> tuple[Paired | None, str | None]:
    if a is None or b is None:
        lacking = " and ".join(name for name, one in (("A", a), ("B", b)) if one is None)
        return None, f"the answers of {lacking} to the test images are not kept"
    if a.split.digest != b.split.digest:
        # Those that are test images of both, under the same label; neither was trained on them.
        labels = dict(zip(a.split.hashes.tolist(), a.split.labels.tolist(), strict=True))
        theirs = zip(b.split.hashes.tolist(), b.split.labels.tolist(), strict=True)
        common = {image for image, label in theirs if labels.get(image) == label}
        if not common:
            return None, "no image is a test image of both"
        a, b = _in_order(a, common), _in_order(b, common)
    params = read_params(workspace.params_file)
    return pair(b, a, params.promote.significance or _LEVEL, params.seed), None


def _in_order(one: Answers, common: set[str]) -> Answers:
    """The answers to some images, one for each, in the order of their hashes."""
    hashes = one.split.hashes.tolist()
    first = {image: at for at, image in reversed(list(enumerate(hashes))) if image in common}
    places = np.array([first[image] for image in sorted(first)])
    chosen = answers.TestSplit(one.split.hashes[places], one.split.labels[places])
    return Answers(chosen, one.predicted[places])
