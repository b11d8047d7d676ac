"""Step ``train``: a GradientTape loop over what is not frozen."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from graftline.adapt import read_statistics, set_statistics
from graftline.artifacts import Assembled, Features, FreezePlan, Preprocessed, Trained
from graftline.assemble import RECORD, planned_graft
from graftline.augment import build_augmentation
from graftline.checkpoints import Checkpoints
from graftline.code_state import code_state
from graftline.csv_files import write_csv
from graftline.errors import TrainingDivergedError
from graftline.examples import Examples, read_examples, read_pooled
from graftline.extract import STATISTICS
from graftline.feature_reference import REFERENCE_FILE, write_reference
from graftline.fitting import DivergedError, EpochCallback, Fitting, Planned, Row
from graftline.graft import TRUNK, divide_logits
from graftline.keras_files import variables_digest
from graftline.model_files import LITERT_FILE, export_model
from graftline.packed import PackedImages
from graftline.params import Params
from graftline.phases import Phase, probe_phase, tune_phase, warn_of_few_steps
from graftline.precision import training_precision
from graftline.progress import progress
from graftline.standardize import set_standardization
from graftline.storage import replacing_directory, replacing_file, sha256_file, sha256_record
from graftline.thaw import thaw, tuned_part
from graftline.workspace import Workspace

HISTORY_COLUMNS = (
    "epoch",
    "phase",
    "loss",
    "accuracy",
    "validation_loss",
    "validation_accuracy",
    "learning_rate",
)


def train(
    workspace: Workspace,
    params: Params,
    on_epoch: EpochCallback | None = None,
    *,
    keep_checkpoint: bool = False,
) -> Trained:
    """Trains the head, then what the plan leaves unfrozen with it, and exports the network.

    Writes ``models/trained/`` (``model.keras``, ``model.tflite``, ``model.weights.h5``,
    ``feature_reference.npz``, ``trained.json``) and ``reports/history.csv``. Killed and started
    again, it goes on from its last checkpoint and ends with the same bytes.

    Args:
        workspace: Where the inputs lie and the outputs go.
        params: ``seed``, ``head``, ``augment``, ``train`` and ``tune`` are read.
        on_epoch: Called after each epoch with its number, from 1, and its metrics.
        keep_checkpoint: Whether the last one stays, for a caller that can still fail; it removes it
            (:mod:`graftline.finished_training`).

    Raises:
        TrainingDivergedError: If loss or gradient becomes NaN or infinite; the weights of the last
            good step are kept under ``var/checkpoints``.
        MissingOutputError: If an earlier step has not run.
    """
    assembled = Assembled.read(workspace.assembled / RECORD)
    checkpoints = Checkpoints(workspace.checkpoint, _key(workspace, params))
    fitted = fit(workspace, params, checkpoints, on_epoch)
    graft, history, best = fitted.graft, fitted.history, fitted.best_epoch
    record = Trained(
        classes=assembled.classes,
        size_px=assembled.size_px,
        best_epoch=best,
        epochs_run=len(history),
        validation_accuracy=history[best - 1]["validation_accuracy"],
        validation_loss=fitted.validation_loss,
        temperature=fitted.temperature,
        weight_digest=variables_digest(graft.variables),
        frozen_digest_before=fitted.frozen_digest,
        frozen_digest_after=variables_digest(fitted.frozen),
        trainable_params=_count(graft.trainable_variables),
        frozen_params=_count(fitted.frozen),
        white=Preprocessed.read(workspace.preprocessed / "preprocessed.json").white,
    )
    with replacing_directory(workspace.trained, sealed=True) as folder:
        export_model(graft, assembled.size_px, folder)
        images = PackedImages.open(workspace.preprocessed)
        reference = folder / REFERENCE_FILE
        write_reference(images, folder / LITERT_FILE, params.seed, reference)
        write_history(history, workspace.history)
        record = record.model_copy(update={"history_sha256": sha256_file(workspace.history)})
        record.write(folder / "trained.json")
    if not keep_checkpoint:
        checkpoints.remove()
    return record


@dataclass(frozen=True)
class Fitted:
    """A trained network.

    Args:
        graft: From raw images to probabilities, with the weights of its best epoch.
        history: A row per epoch.
        best_epoch: Counted from 1.
        temperature: What its logits were divided by.
        validation_loss: At that temperature, which was chosen for it.
        frozen: The variables that were not to move.
        frozen_digest: Their digest before training.
    """

    graft: Any
    history: list[Row]
    best_epoch: int
    temperature: float
    validation_loss: float
    frozen: list[Any]
    frozen_digest: str


def fit(
    workspace: Workspace,
    params: Params,
    checkpoints: Checkpoints | None = None,
    on_epoch: EpochCallback | None = None,
) -> Fitted:
    """Trains the planned network, and writes nothing but checkpoints; see :func:`train`."""
    import keras

    # Keras numbers nameless layers through a process's life, and the names stand in the files.
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(params.seed)
    assembled = Assembled.read(workspace.assembled / RECORD)
    plan = FreezePlan.read(workspace.freeze_plan)
    graft = planned_graft(workspace, plan, params.head, params.seed)
    if plan.batch_norm == "adapt":
        set_statistics(graft.get_layer(TRUNK), read_statistics(workspace.features / STATISTICS))
    frozen = thaw(graft, plan)
    digest = variables_digest(frozen)
    pooled = read_pooled(workspace, "train")
    set_standardization(graft, pooled)
    warn_of_few_steps(len(pooled), params.train, params.tune if plan.trainable else None)
    phases = [Planned("probe", lambda: _probe(workspace, params, graft, pooled))]
    if plan.trainable:
        phases.append(Planned("tune", lambda: _tune(workspace, params, graft, plan, assembled)))
    epochs = params.train.epochs + (params.tune.epochs if plan.trainable else 0)
    patience = params.train.early_stopping_patience
    with progress("train", epochs * len(pooled), "images") as bar:
        fitting = Fitting(graft, phases, patience, checkpoints, on_epoch, bar, epochs)
        try:
            best = fitting.run()
        except DivergedError as error:
            raise _diverged(workspace, error) from error
    divide_logits(graft, best.temperature)
    return Fitted(graft, fitting.history, best.epoch, best.temperature, best.loss, frozen, digest)


def write_history(history: list[Row], path: Path) -> None:
    """Writes one row per epoch; numbers with all their digits, so that equal runs compare equal."""
    rows = ([row[column] for column in HISTORY_COLUMNS] for row in history)
    with replacing_file(path) as temporary:
        write_csv(temporary, HISTORY_COLUMNS, rows)


def _probe(workspace: Workspace, params: Params, graft: Any, pooled: Examples) -> Phase:
    validation_set = read_pooled(workspace, "validation")
    return probe_phase(graft, pooled, validation_set, params.train, params.seed)


def _tune(
    workspace: Workspace, params: Params, graft: Any, plan: FreezePlan, assembled: Assembled
) -> Phase:
    sets = (read_examples(workspace, "train"), read_examples(workspace, "validation"))
    boundary = Features.read(workspace.features / "features.json").boundary
    augmentation = None
    if boundary is None and params.augment.active:
        augmentation = build_augmentation(params.augment, params.seed)
    return tune_phase(
        graft,
        tuned_part(graft, boundary, augmentation),
        assembled.up_to(plan.cut),
        sets,
        params.train,
        params.tune,
        params.seed,
    )


def _key(workspace: Workspace, params: Params) -> str:
    """What the result depends on: a checkpoint of anything else must not be taken up."""
    records = (
        Assembled.read(workspace.assembled / RECORD),
        FreezePlan.read(workspace.freeze_plan),
        Preprocessed.read(workspace.preprocessed / "preprocessed.json"),
        Features.read(workspace.features / "features.json"),
    )
    sections = (params.head, params.augment, params.train, params.tune)
    return sha256_record(
        [
            params.seed,
            code_state("graftline/train.py", trains=True),
            # Of auto the machine decides.
            training_precision(params.train.mixed_precision),
            *(part.model_dump(mode="json") for part in (*records, *sections)),
        ]
    )


def _diverged(workspace: Workspace, error: DivergedError) -> TrainingDivergedError:
    kept = workspace.var / "checkpoints" / "last_good.weights.h5"
    kept.parent.mkdir(parents=True, exist_ok=True)
    loop = error.phase.loop
    loop.network.save_weights(kept)
    section = "train" if error.phase.name == "probe" else "tune"
    return TrainingDivergedError(
        f"loss or gradient became NaN or infinite in epoch {error.epoch}",
        where=f"{section}.learning_rate: {loop.learning_rate():g} at that moment",
        fix=f"lower {section}.learning_rate; the weights of the last good step are in {kept}",
    )


def _count(variables: list[Any]) -> int:
    return sum(int(np.prod(variable.shape)) for variable in variables)
