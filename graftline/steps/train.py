"""Step ``train``: a GradientTape loop over what is not frozen."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from graftline.compute.groups import group_of, losses_told, same_everywhere
from graftline.compute.strategies import training_strategy
from graftline.core.code_state import code_state
from graftline.core.csv_files import write_csv
from graftline.core.errors import ParamsError, TrainingDivergedError, WorkerLostError
from graftline.core.files import replacing_directory, replacing_file, sha256_file, sha256_record
from graftline.core.params import Params, read_params
from graftline.core.progress import progress
from graftline.core.records import Assembled, Features, FreezePlan, Preprocessed, Trained
from graftline.core.workspace import Workspace
from graftline.data.shards import PackedImages
from graftline.evaluation.feature_reference import REFERENCE_FILE, write_reference
from graftline.network.assembled import planned_classifier
from graftline.network.batch_norm import read_statistics, set_statistics
from graftline.network.classifier import BACKBONE, divide_logits
from graftline.network.keras_io import variables_digest
from graftline.network.model_files import export_model
from graftline.network.opened_model import open_model
from graftline.network.precision import training_precision
from graftline.network.runners.choosing import computing_of
from graftline.network.unfreezing import thaw, tuned_part
from graftline.steps.extract import STATISTICS
from graftline.training.augment import build_augmentation
from graftline.training.checkpoints import Checkpoints, Followed
from graftline.training.datasets import Examples, read_examples, read_pooled
from graftline.training.feature_scaling import set_standardization
from graftline.training.phases import Phase, probe_phase, tune_phase, warn_of_few_steps
from graftline.training.trainer import DivergedError, EpochCallback, PhaseSpec, Row, Trainer

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
        params: ``seed``, ``head``, ``augment``, ``train``, ``tune`` and ``compute`` are read.
        on_epoch: Called after each epoch with its number, from 1, and its metrics.
        keep_checkpoint: Whether the last one stays, for a caller that can still fail; it removes it
            (:mod:`graftline.operations.finished_training`).

    Raises:
        TrainingDivergedError: If loss or gradient becomes NaN or infinite; the weights of the last
            good step are kept under ``var/checkpoints``.
        MissingOutputError: If an earlier step has not run.
    """
    strategy = training_strategy(params.compute)
    assembled = Assembled.read_in(workspace)
    checkpoints = Checkpoints(workspace.checkpoint, _key(workspace, params))
    fitted = fit(workspace, params, checkpoints, on_epoch, strategy)
    classifier, history, best = fitted.classifier, fitted.history, fitted.best_epoch
    preprocessed = Preprocessed.read_in(workspace)
    record = Trained(
        classes=assembled.classes,
        size_px=assembled.size_px,
        best_epoch=best,
        epochs_run=len(history),
        validation_accuracy=history[best - 1]["validation_accuracy"],
        validation_loss=fitted.validation_loss,
        temperature=fitted.temperature,
        weight_digest=variables_digest(classifier.variables),
        frozen_digest_before=fitted.frozen_digest,
        frozen_digest_after=variables_digest(fitted.frozen),
        trainable_params=_count(classifier.trainable_variables),
        frozen_params=_count(fitted.frozen),
        white=preprocessed.white,
        drawings=preprocessed.drawings,
        precision=FreezePlan.read_in(workspace).precision,
    )
    with replacing_directory(workspace.trained, sealed=True) as folder:
        export_model(classifier, assembled.size_px, folder)
        images = PackedImages.open(workspace.preprocessed)
        reference = folder / REFERENCE_FILE
        computing = computing_of(params.compute.device, record.precision)
        with open_model(folder, computing, record.size_px) as runner:
            write_reference(images, runner, params.seed, reference)
        write_history(history, workspace.history)
        record = record.model_copy(update={"history_sha256": sha256_file(workspace.history)})
        record.write(folder / record.file_name())
    if not keep_checkpoint:
        checkpoints.remove()
    return record


def join(workspace: Workspace, params: Params) -> None:
    """Trains along with the process that leads the group, and writes nothing.

    Args:
        workspace: A folder that all processes of the group share.
        params: ``compute`` is read, and all else once the group is complete.

    Raises:
        WorkerLostError: If another process of the group is lost.
    """
    strategy = training_strategy(params.compute)
    # Only now all that the leading process depends on is there.
    params = read_params(workspace.params_file)
    checkpoints = Checkpoints(workspace.checkpoint, _key(workspace, params))
    fit(workspace, params, Followed(checkpoints), strategy=strategy)


@dataclass(frozen=True)
class Fitted:
    """A trained network.

    Args:
        classifier: From raw images to probabilities, with the weights of its best epoch.
        history: A row per epoch.
        best_epoch: Counted from 1.
        temperature: What its logits were divided by.
        validation_loss: At that temperature, which was chosen for it.
        frozen: The variables that were not to move.
        frozen_digest: Their digest before training.
    """

    classifier: Any
    history: list[Row]
    best_epoch: int
    temperature: float
    validation_loss: float
    frozen: list[Any]
    frozen_digest: str


def fit(
    workspace: Workspace,
    params: Params,
    checkpoints: Checkpoints | Followed | None = None,
    on_epoch: EpochCallback | None = None,
    strategy: Any = None,
) -> Fitted:
    """Trains the planned network, and writes nothing but checkpoints; see :func:`train`.

    Args:
        workspace: Where the inputs lie.
        params: As for :func:`train`.
        checkpoints: Where it is kept how far training has come.
        on_epoch: Called after each epoch.
        strategy: What :func:`training_strategy` has given; by default it is asked.
    """
    strategy = training_strategy(params.compute) if strategy is None else strategy
    group = group_of(params.compute)
    with losses_told(group):
        if group is not None:
            _refuse_other_inputs(workspace, params, strategy, checkpoints)
        fitted = _fitted(workspace, params, checkpoints, on_epoch, strategy)
        if group is not None and not same_everywhere(
            strategy, variables_digest(fitted.classifier.variables)
        ):
            raise RuntimeError("the processes that train together came to different weights")
    return fitted


def _refuse_other_inputs(
    workspace: Workspace, params: Params, strategy: Any, checkpoints: Checkpoints | Followed | None
) -> None:
    if not same_everywhere(strategy, _key(workspace, params)):
        raise ParamsError(
            "the processes that train together do not see the same inputs, parameters or code",
            where=f"{workspace.root} on one of their machines",
            fix="have all of them work in one folder that they share, with the same version of "
            "Graftline",
        )
    standing = checkpoints.load() if checkpoints else None
    if not same_everywhere(strategy, repr(standing)):
        raise WorkerLostError(
            "the processes that train together do not see the same checkpoint",
            where=str(workspace.checkpoint),
            fix="start all of them again",
        )


def _fitted(
    workspace: Workspace,
    params: Params,
    checkpoints: Checkpoints | Followed | None,
    on_epoch: EpochCallback | None,
    strategy: Any,
) -> Fitted:
    import keras

    # Keras numbers nameless layers through a process's life, and the names stand in the files.
    keras.utils.clear_session(free_memory=False)
    with strategy.scope():
        keras.utils.set_random_seed(params.seed)
        plan = FreezePlan.read_in(workspace)
        classifier, frozen = _planned(workspace, params, plan)
        digest = variables_digest(frozen)
        pooled = read_pooled(workspace, "train")
        set_standardization(classifier, pooled)
        warn_of_few_steps(len(pooled), params.train, params.tune if plan.trainable else None)
        phases = [PhaseSpec("probe", lambda: _probe(workspace, params, classifier, pooled))]
        if plan.trainable:
            phases.append(PhaseSpec("tune", lambda: _tune(workspace, params, classifier, plan)))
        epochs = params.train.epochs + (params.tune.epochs if plan.trainable else 0)
        patience = params.train.early_stopping_patience
        with progress("train", epochs * len(pooled), "images") as bar:
            fitting = Trainer(classifier, phases, patience, checkpoints, on_epoch, bar, epochs)
            try:
                best = fitting.run()
            except DivergedError as error:
                group = group_of(params.compute)
                leads = group is None or group.leads
                raise _diverged(workspace, error, keep=leads) from error
    if strategy.num_replicas_in_sync > 1:
        # Of variables that lie on one device alone, as those who read and export it expect.
        keras.utils.clear_session(free_memory=False)
        spread, (classifier, frozen) = classifier, _planned(workspace, params, plan)
        for variable, trained in zip(classifier.variables, spread.variables, strict=True):
            variable.assign(trained.numpy())
    divide_logits(classifier, best.temperature)
    return Fitted(
        classifier, fitting.history, best.epoch, best.temperature, best.loss, frozen, digest
    )


def _planned(workspace: Workspace, params: Params, plan: FreezePlan) -> tuple[Any, list[Any]]:
    """The network before its training, and its variables that are not to move."""
    classifier = planned_classifier(workspace, plan, params.head, params.seed)
    if plan.batch_norm == "adapt":
        set_statistics(
            classifier.get_layer(BACKBONE), read_statistics(workspace.features / STATISTICS)
        )
    return classifier, thaw(classifier, plan)


def write_history(history: list[Row], path: Path) -> None:
    """Writes one row per epoch; numbers with all their digits, so that equal runs compare equal."""
    rows = ([row[column] for column in HISTORY_COLUMNS] for row in history)
    with replacing_file(path) as temporary:
        write_csv(temporary, HISTORY_COLUMNS, rows)


def _probe(workspace: Workspace, params: Params, classifier: Any, pooled: Examples) -> Phase:
    validation_set = read_pooled(workspace, "validation")
    return probe_phase(classifier, pooled, validation_set, params.train, params.seed)


def _tune(workspace: Workspace, params: Params, classifier: Any, plan: FreezePlan) -> Phase:
    sets = (read_examples(workspace, "train"), read_examples(workspace, "validation"))
    boundary = Features.read_in(workspace).boundary
    augmentation = None
    if boundary is None and params.augment.active:
        augmentation = build_augmentation(params.augment, params.seed)
    return tune_phase(
        classifier,
        tuned_part(classifier, boundary, augmentation),
        Assembled.read_in(workspace).up_to(plan.cut),
        sets,
        params.train,
        params.tune,
        params.seed,
        _precision(params),
    )


def _precision(params: Params) -> str:
    return training_precision(params.train.mixed_precision, params.compute.device)


def _key(workspace: Workspace, params: Params) -> str:
    """What the result depends on: a checkpoint of anything else must not be taken up."""
    records = (
        Assembled.read_in(workspace),
        FreezePlan.read_in(workspace),
        Preprocessed.read_in(workspace),
        Features.read_in(workspace),
    )
    sections = (params.head, params.augment, params.train, params.tune)
    return sha256_record(
        [
            params.seed,
            code_state("graftline/steps/train.py", trains=True),
            # Of auto the machine decides.
            _precision(params),
            params.compute.strategy,
            params.compute.deterministic,
            *(part.model_dump(mode="json") for part in (*records, *sections)),
        ]
    )


def _diverged(workspace: Workspace, error: DivergedError, *, keep: bool) -> TrainingDivergedError:
    kept = workspace.var / "checkpoints" / "last_good.weights.h5"
    loop = error.phase.loop
    if keep:
        kept.parent.mkdir(parents=True, exist_ok=True)
        loop.network.save_weights(kept)
    section = "train" if error.phase.name == "probe" else "tune"
    return TrainingDivergedError(
        f"loss or gradient became NaN or infinite in epoch {error.epoch}",
        where=f"{section}.learning_rate: {loop.learning_rate():g} at that moment",
        fix=f"lower {section}.learning_rate; the weights of the last good step are in {kept}",
    )


def _count(variables: list[Any]) -> int:
    return sum(int(np.prod(variable.shape)) for variable in variables)
