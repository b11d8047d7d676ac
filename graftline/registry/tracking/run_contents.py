"""The contents of a run: read from the output files alone, so that cached steps are in it too."""

from __future__ import annotations

import contextlib
import json
import math
import os
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from graftline.core import timings
from graftline.core.checksums import verify
from graftline.core.code_state import version_of
from graftline.core.dvc_file import DVC_FILE, stages_in, texts
from graftline.core.dvc_lock import LOCK_FILE
from graftline.core.errors import ParamsError, visible
from graftline.core.files import sha256_file, sha256_record, write_text
from graftline.core.markdown import table
from graftline.core.params import NO_FILES, Params, flattened, params_from_record, read_params
from graftline.core.params.yaml_text import parse_yaml
from graftline.core.records import Assembled, Dataset, Exports, FreezePlan, Metrics, Trained
from graftline.core.repository import git
from graftline.core.stages import STAGES
from graftline.core.uncommitted import uncommitted_files
from graftline.core.workspace import PARAMS_FILE, Workspace
from graftline.formats.speeds import FormatSpeeds, read_speeds
from graftline.registry.tracking.class_keys import class_keys
from graftline.selection.records import Verdict
from graftline.training.history import read_history

_PACKAGES = ("graftline", "tensorflow", "keras", "ai-edge-litert", "mlflow", "prefect", "dvc")
_MAX_TAG_CHARACTERS = 4000
_MAX_NAME_CHARACTERS = 250
"""As long as the column of a database is that holds a run's name."""
_MAX_CLASSES_AS_METRICS = 100
_MAX_CHANGED = 4
_TOLD_ANYWAY = ("data.source", "data.path", "backbone.cut", "freeze.strategy", "notify.")


@dataclass(frozen=True)
class Outputs:
    """The records that the steps have written so far; None where one has not."""

    dataset: Dataset | None
    assembled: Assembled | None
    plan: FreezePlan | None
    trained: Trained | None
    metrics: Metrics | None
    verdict: Verdict | None = None
    """Of ``freeze.strategy: auto``."""
    exports: Exports | None = None
    """Of the trained model; None too where there are but those of an earlier one."""
    speeds: FormatSpeeds | None = None
    """Of the exports, where they were measured on this machine."""


def read_outputs(workspace: Workspace) -> Outputs:
    """Reads what is there."""
    plan = FreezePlan.find_in(workspace)
    trained = Trained.find_in(workspace)
    exports = _exports_of(trained, workspace)
    return Outputs(
        dataset=Dataset.find_in(workspace),
        assembled=Assembled.find_in(workspace),
        plan=plan,
        trained=trained,
        metrics=Metrics.find_in(workspace),
        # A report that a killed run left belongs to no plan.
        verdict=Verdict.find_in(workspace) if plan is not None and plan.measured else None,
        exports=exports,
        speeds=read_speeds(workspace, exports) if exports else None,
    )


def run_name(workspace: Workspace, params: Params) -> str:
    """A name that tells runs apart: what differs from the commit, data, cut, what is frozen.

    Args:
        workspace: Whose committed ``params.yaml`` is asked.
        params: What the run is made with.
    """
    source: str = params.data.source
    if params.data.path is not None:
        source = f"{source} {Path(params.data.path).name}"
    # MLflow's list of runs shows the first thirty characters of a name.
    told = [*_changed(workspace, params), source, params.backbone.cut_layer, _strategy(params)]
    return ", ".join(told)[:_MAX_NAME_CHARACTERS]


def origin_tags(workspace: Workspace, params: Params, door: str) -> dict[str, str]:
    """What is known before the first step: code, seed, versions, door."""
    tags = {
        "graftline.door": door,
        "graftline.seed": str(params.seed),
        **versions(),
        **_git_tags(workspace.root),
    }
    for variable, tag in (
        ("DVC_EXP_NAME", "graftline.dvc_experiment"),
        ("DVC_EXP_BASELINE_REV", "graftline.dvc_experiment_baseline"),
    ):
        if os.environ.get(variable):
            tags[tag] = os.environ[variable]
    return tags


def why_not_reproducible(tags: Mapping[str, str]) -> str | None:
    """What keeps a run from being made again, by its tags; None if nothing does.

    The history holds a run's own ``params.yaml`` and ``dvc.lock``, so these may differ from those
    of the commit.
    """
    if not tags.get("graftline.git_commit"):
        return "git knows no commit of it"
    if tags.get("graftline.git_dirty") == "false":
        return None
    names = tags.get("graftline.git_changed", "unknown files").splitlines()
    changed = [name for name in names if name not in (PARAMS_FILE, LOCK_FILE)]
    return f"no commit holds {', '.join(changed)} as it was" if changed else None


def versions(installed: Callable[[str], str | None] = version_of) -> dict[str, str]:
    """The versions of Python and of the packages that results depend on, by tag.

    Args:
        installed: The version of a package; None where it is not installed.
    """
    return {
        "graftline.version.python": platform.python_version(),
        **{f"graftline.version.{name}": installed(name) or "not installed" for name in _PACKAGES},
    }


def outcome_tags(workspace: Workspace, outputs: Outputs) -> dict[str, str]:
    """What ties a run to its data, its weights and its outputs."""
    tags: dict[str, str | None] = {}
    if outputs.dataset:
        tags["graftline.dataset_digest"] = outputs.dataset.digest
    if outputs.assembled:
        tags["graftline.base_weights"] = outputs.assembled.weights
        tags["graftline.base_weights_sha256"] = outputs.assembled.weights_sha256
        tags["graftline.backbone_digest"] = outputs.assembled.backbone_digest
    if outputs.trained:
        tags["graftline.weight_digest"] = outputs.trained.weight_digest
    if outputs.plan:
        tags |= _freezing_tags(outputs.plan, outputs.verdict)
    lock = workspace.root / LOCK_FILE
    if lock.is_file():
        tags["graftline.dvc_lock_sha256"] = sha256_file(lock)
    return {name: value for name, value in tags.items() if value is not None}


def cached_stages(workspace: Workspace, started: float, ran: Sequence[str]) -> list[str]:
    """The stages that were skipped.

    Args:
        workspace: Where each stage notes how long it took.
        started: When the execution's process was, as :mod:`graftline.core.processes` counts.
        ran: Stages known to have run; the last of them has not noted its seconds yet.
    """
    return [
        stage
        for stage in STAGES
        if stage not in ran and not timings.noted_since(workspace, stage, started)
    ]


def seconds(workspace: Workspace, cached: Sequence[str], started: float | None) -> dict[str, float]:
    """How long each stage took that was not skipped, as far as it was noted after ``started``."""
    values = {}
    for stage in STAGES:
        timing = timings.file(workspace, stage)
        if stage in cached or not timing.is_file():
            continue
        if started is None or timings.noted_since(workspace, stage, started):
            values[f"seconds/{stage}"] = float(json.loads(timing.read_text())["seconds"])
    return values


def epochs(workspace: Workspace) -> list[tuple[int, dict[str, float]]]:
    """``reports/history.csv`` as (epoch, metrics), without what is not finite."""
    if not workspace.history.is_file():
        return []
    return [_epoch(row) for row in read_history(workspace)]


def test_metrics(metrics: Metrics) -> dict[str, float]:
    """The test metrics by name, the F1 of each class among them."""
    record = metrics.model_dump(exclude={"classes"})
    values = {name: float(value) for name, value in record.items()}
    if metrics.balanced_accuracy is not None:
        values["test_balanced_accuracy"] = metrics.balanced_accuracy
    if len(metrics.classes) <= _MAX_CLASSES_AS_METRICS:
        keys = class_keys(metrics.classes)
        values |= {f"test_f1/{keys[name]}": one.f1 for name, one in metrics.classes.items()}
    return {name: value for name, value in values.items() if math.isfinite(value)}


def verdict_metrics(verdict: Verdict) -> dict[str, float]:
    """The figures of ``freeze.strategy: auto`` by name."""
    values = {
        "accuracy": verdict.accuracy,
        "standard_error": verdict.standard_error,
        "p_value": verdict.p_value,
        "best_accuracy": verdict.best_accuracy,
        "textbook_accuracy": verdict.textbook_accuracy,
        "backbone_share": verdict.backbone_share,
        "gain_of_doubling": verdict.facts.gain_of_doubling,
        "fall": verdict.facts.fall,
    }
    return {f"freezing/{name}": value for name, value in values.items() if value is not None}


def export_metrics(exports: Exports, speeds: FormatSpeeds | None) -> dict[str, float]:
    """What each exported file keeps and costs, by name."""
    values: dict[str, float] = {}
    for one in exports.exported:
        found: dict[str, float] = {
            "accuracy": one.accuracy,
            "agreement": one.agreement,
            "largest_drop": one.largest_drop,
            "size_bytes": float(one.size_bytes),
        }
        if speeds and (speed := speeds.measured.get(one.format)):
            found["images_per_second"] = speed.images_per_second
            found["load_s"] = speed.load_s
        values |= {f"export/{one.format}/{name}": value for name, value in found.items()}
    return values


def own_metrics_files(workspace: Workspace) -> Iterator[tuple[str, Path]]:
    """The metrics files of the stages that a project has of its own, each with its stage."""
    for name, stage in stages_in(workspace.root / DVC_FILE).items():
        for entry in texts(stage.get("metrics")) if name not in STAGES else ():
            path = workspace.root / entry
            if path.is_file() and path.suffix == ".json":
                yield name, path


def own_metrics(workspace: Workspace) -> dict[str, float]:
    """The numbers in :func:`own_metrics_files`, as ``stage/key``; what is no JSON has none."""
    found: dict[str, float] = {}
    for stage, path in own_metrics_files(workspace):
        with contextlib.suppress(OSError, ValueError):
            record = json.loads(path.read_text(encoding="utf-8"))
            values = flattened(record if isinstance(record, dict) else {})
            for key, value in values.items():
                if isinstance(value, int | float) and math.isfinite(value):
                    found[f"{stage}/{key}"] = float(value)
    return found


def params_file(workspace: Workspace, params: Params, folder: Path) -> Path:
    """``params.yaml``, or what it held in this run if it has been changed since.

    Args:
        workspace: The checkout.
        params: What the run was made with.
        folder: Where the latter is written.
    """
    with contextlib.suppress(ParamsError):
        if read_params(workspace.params_file) == params:
            return workspace.params_file
    path = folder / workspace.params_file.name
    # YAML takes JSON as it is.
    record = params.model_dump(mode="json", by_alias=True)
    # As DVC takes it, which runs the stages of a run that is reproduced.
    record["data"]["path"] = record["data"]["path"] or NO_FILES
    write_text(path, json.dumps(record, indent=2) + "\n")
    return path


def files(
    workspace: Workspace, *, evaluated: bool, params_file: Path | None = None
) -> list[tuple[Path, str]]:
    """The files that a run carries, each with its folder in it; see :func:`params_file`.

    Raises:
        DamagedFileError: If one is not what its step wrote.
    """
    found = [
        (path, "") for path in (params_file or workspace.params_file, workspace.root / LOCK_FILE)
    ]
    found += [(workspace.history, "training"), (workspace.freeze_plan, "freezing")]
    found += [(path, "freezing") for path in _below(workspace.freezing_report)]
    if evaluated:
        found += [(workspace.metrics, "evaluation")]
        found += [(path, "evaluation") for path in _below(workspace.evaluation)]
        if (exports := read_outputs(workspace).exports) and exports.exported:
            found += [(path, "exports") for path in _below(workspace.exports_report)]
    found = [(path, folder) for path, folder in found if path.is_file()]
    for path, _ in found:
        verify(path)
    return found + [(path, stage) for stage, path in own_metrics_files(workspace)]


def files_digest(found: list[tuple[Path, str]]) -> str:
    """One digest over the names and bytes of all files."""
    return sha256_record([(path.name, folder, sha256_file(path)) for path, folder in found])


def note(params: Params, outputs: Outputs, *, evaluated: bool) -> str:
    """The run's description, as Markdown."""
    verdict = f"{_verdict(outputs.metrics)}\n\n" if evaluated and outputs.metrics else ""
    facts = ((f"**{title}**", text) for title, text in _facts(params, outputs))
    return verdict + table(("", ""), facts, "ll")


def _exports_of(trained: Trained | None, workspace: Workspace) -> Exports | None:
    # Where an export was refused, those of an earlier model lie there still.
    exports = Exports.find_in(workspace)
    if trained is None or exports is None or exports.original is None:
        return None
    return exports if exports.original.weight_digest == trained.weight_digest else None


def _freezing_tags(plan: FreezePlan, verdict: Verdict | None) -> dict[str, str]:
    tags = {"graftline.freezing.strategy": plan.strategy, "graftline.freezing.cut": plan.cut}
    if verdict is not None:
        tags |= {
            "graftline.freezing.decided_by": verdict.decided_by,
            "graftline.freezing.situation": verdict.situation,
            "graftline.freezing.textbook": verdict.textbook,
        }
    return tags


def _facts(params: Params, outputs: Outputs) -> Iterator[tuple[str, str]]:
    if outputs.dataset:
        data = outputs.dataset
        splits = ", ".join(f"{data.total(split)} {split}" for split in data.counts)
        yield "Data", f"{data.source}: {len(data.classes)} classes, {splits} images"
    if outputs.assembled:
        one = outputs.assembled
        yield (
            "Backbone",
            f"{one.backbone} {one.alpha} at {one.size_px} px, cut after `{one.cut}`, "
            f"weights {one.weights}",
        )
    if outputs.plan:
        yield "Freezing", f"`{outputs.plan.strategy}`: {outputs.plan.reason}"
    if outputs.trained:
        trained = outputs.trained
        yield (
            "Training",
            f"kept after epoch {trained.best_epoch} of {trained.epochs_run}, validation accuracy "
            f"{trained.validation_accuracy:.4f}; {trained.trainable_params:,} weights trained, "
            f"{trained.frozen_params:,} frozen",
        )
        yield "Weights", f"`{trained.weight_digest[:16]}`, seed {params.seed}"


def _verdict(metrics: Metrics) -> str:
    return (
        f"**{metrics.test_accuracy:.2%} of {metrics.test_images:,} test images right** "
        f"(95 % interval {metrics.test_accuracy_low:.2%} to {metrics.test_accuracy_high:.2%}; "
        f"always naming the most frequent class: {metrics.majority_baseline:.2%})"
    )


def _changed(workspace: Workspace, params: Params) -> Iterator[str]:
    """The parameters that are others than the last commit's, but for those named anyway."""
    text = git(workspace.root, "show", f"HEAD:./{workspace.params_file.name}")
    if text is None:
        return
    try:
        committed = params_from_record(parse_yaml(text, "HEAD"), "HEAD").flat()
    except ParamsError:
        # Of another version of Graftline.
        return
    now = params.flat()
    changed = [
        f"{key}={_short(value)}"
        for key, value in now.items()
        if committed.get(key) != value and not key.startswith(_TOLD_ANYWAY)
    ]
    yield from changed[:_MAX_CHANGED]
    if len(changed) > _MAX_CHANGED:
        yield f"{len(changed) - _MAX_CHANGED} more"


def _short(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _strategy(params: Params) -> str:
    strategy = params.freeze.strategy
    if isinstance(strategy, str):
        return f"freeze {strategy}"
    return " ".join(f"{name} {value}" for name, value in strategy.model_dump().items())


def _epoch(row: dict[str, str]) -> tuple[int, dict[str, float]]:
    values = {name: float(text) for name, text in row.items() if name != "epoch" and text}
    finite = {name: value for name, value in values.items() if math.isfinite(value)}
    return int(row["epoch"]), finite


def _below(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*") if path.is_file())


def _git_tags(root: Path) -> dict[str, str]:
    commit = (git(root, "rev-parse", "HEAD") or "").strip()
    if not commit:
        return {}
    changed = uncommitted_files(root)
    dirty = "unknown" if changed is None else str(bool(changed)).lower()
    tags = {
        "mlflow.source.type": "LOCAL",
        "mlflow.source.name": "graftline",
        "mlflow.source.git.commit": commit,
        "mlflow.source.git.branch": (git(root, "branch", "--show-current") or "").strip(),
        "graftline.git_commit": commit,
        "graftline.git_dirty": dirty,
    }
    if changed:
        # What cannot be had back from the commit, for who wants to run this again.
        files = [visible(name.replace("\n", "\\n")) for name in changed]
        if changed == ["."]:
            files = ["every file: git tracks none of this checkout"]
        tags["graftline.git_changed"] = "\n".join(files)[:_MAX_TAG_CHARACTERS]
    return tags
