"""Puts the trained model into MLflow's registry: the last step, and only of flows."""

from __future__ import annotations

from graftline.core.counts import counted
from graftline.core.params import Params
from graftline.core.records import Dataset, Metrics, Trained
from graftline.core.records.register import Registered
from graftline.core.workspace import Workspace
from graftline.registry import tracking
from graftline.registry.tracking.versions import DATASET_TAG

ALIAS = "challenger"
_MAX_DESCRIPTION_CHARACTERS = 5000
"""As long as the column of a database is that holds a version's description."""


def register(workspace: Workspace, params: Params, run_id: str) -> Registered:
    """Makes the trained model a new version of ``register.model_name``.

    If a version has the same weights, and its files are whole, it is taken instead of a new one.

    Args:
        workspace: Where the trained and evaluated model lies.
        params: The parameters; ``register.model_name`` is used.
        run_id: The run that the model belongs to.

    Raises:
        MissingOutputError: If there is no trained and evaluated model.
        TrackingError: If the registry cannot be used.
    """
    # NumPy is not needed by those who only read the receipt.
    from graftline.registry import trained_on

    trained = Trained.read_in(workspace)
    metrics = Metrics.read_in(workspace)
    dataset = Dataset.read_in(workspace)
    version, already = tracking.register_model(
        workspace,
        params.register_.model_name,
        run_id,
        ALIAS,
        _tags(trained, metrics, dataset),
        _description(metrics, dataset),
    )
    trained_on.note(workspace, version)
    registered = Registered(
        model_name=version.name,
        version=version.version,
        alias=ALIAS,
        run_id=version.run_id,
        model_uri=f"models:/{version.name}/{version.version}",
        already_registered=already,
    )
    registered.write(Registered.path_in(workspace))
    return registered


def _tags(trained: Trained, metrics: Metrics, dataset: Dataset) -> dict[str, str]:
    return {
        "graftline.test_accuracy": f"{metrics.test_accuracy:.6f}",
        "graftline.test_images": str(metrics.test_images),
        DATASET_TAG: dataset.digest,
        "graftline.size_px": str(trained.size_px),
    }


def _description(metrics: Metrics, dataset: Dataset) -> str:
    classes = ", ".join(dataset.classes[:20]) + (" and more" if len(dataset.classes) > 20 else "")
    text = (
        f"{metrics.test_accuracy:.2%} of {counted(metrics.test_images, 'test image')} of "
        f"{dataset.source} right (95 % interval {metrics.test_accuracy_low:.2%} to "
        f"{metrics.test_accuracy_high:.2%}). Classes: {classes}."
    )
    # A database may take no control characters, which a class in a table may be named with.
    shown = "".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in text)
    return shown[:_MAX_DESCRIPTION_CHARACTERS]
