"""Models in MLflow: logged once per run, and put into the registry as versions."""

from __future__ import annotations

import importlib.metadata
import logging
import shutil
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import graftline
from graftline.core.checksums import seal, verify, verify_all
from graftline.core.environment import patience_s
from graftline.core.errors import DamagedFileError, MissingOutputError
from graftline.core.files import scratch_folder, sha256_file
from graftline.core.records import Trained
from graftline.core.workspace import LITERT_FILE, Workspace
from graftline.registry.tracking.store import configure, open_client, reported
from graftline.registry.tracking.versions import (
    DIGEST_TAG,
    FILE_TAG,
    RECORD_TAG,
    Version,
    as_version,
)

if TYPE_CHECKING:
    import pandas as pd
    from mlflow.tracking import MlflowClient

NAME = "model"
"""Of the logged model within its run."""
_REQUIREMENTS = (
    *("ai-edge-litert", "mlflow", "numpy", "pandas", "pillow", "pydantic", "ruamel.yaml"),
    "xxhash",
)
"""What prediction imports; their exact versions are required."""
_EXAMPLE_PX = 32
_MODEL_TAG = "graftline.model_id"


def ensure_model(
    client: MlflowClient, run_id: str, workspace: Workspace, trained: Trained, *, anew: bool = False
) -> str:
    """Logs the trained model to its run, unless that has been done, and returns its id.

    The model counts as READY only once all its files are there. With ``anew`` it is logged in any
    case, since those that are there are not whole any more.
    """
    run = client.get_run(run_id)
    model_id = run.data.tags.get(_MODEL_TAG)
    if not anew and model_id is not None and _is_logged(client, model_id, trained):
        return model_id
    from mlflow.entities import LoggedModelOutput, LoggedModelStatus

    verify(workspace.trained / LITERT_FILE)
    file_digest = sha256_file(workspace.trained / LITERT_FILE)
    logged = client.create_logged_model(
        run.info.experiment_id,
        name=NAME,
        source_run_id=run_id,
        params=dict(run.data.params),
        tags={DIGEST_TAG: trained.weight_digest, FILE_TAG: file_digest},
        model_type="image classifier",
    )
    with scratch_folder() as folder:
        _save(folder, workspace, trained, logged)
        client.log_model_artifacts(logged.model_id, str(folder / NAME))
    client.finalize_logged_model(logged.model_id, LoggedModelStatus.READY)
    client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, step=trained.best_epoch)])
    client.set_tag(run_id, _MODEL_TAG, logged.model_id)
    return str(logged.model_id)


def register_model(
    workspace: Workspace,
    name: str,
    run_id: str,
    alias: str,
    tags: Mapping[str, str],
    description: str,
) -> tuple[Version, bool]:
    """Makes the trained model a version, and points ``alias`` at it.

    A version of the same weights, classes and file, if that is whole, is taken instead of a second
    one, however old it is.

    Args:
        workspace: Where the trained model lies.
        name: The registered model.
        run_id: The run that it came from.
        alias: What the version is called from now on.
        tags: Of the version.
        description: Of the version, as Markdown.

    Returns:
        The version, and whether it was there already.

    Raises:
        TrackingError: If the registry cannot be used.
    """
    from graftline.registry.tracking.own_versions import note_version

    trained = Trained.read_in(workspace)
    store = configure(workspace)
    client, _ = open_client(store, patience_s(), files=True)
    with reported(store):
        verify(workspace.trained / LITERT_FILE)
        digests = {
            DIGEST_TAG: trained.weight_digest,
            FILE_TAG: sha256_file(workspace.trained / LITERT_FILE),
            RECORD_TAG: sha256_file(Trained.path_in(workspace)),
        }
        # The same weights may be in another file: one that gives features, which an older did not.
        same = [
            version
            for version in _of_weights(client, name, trained.weight_digest)
            if version.tags.get(FILE_TAG) == digests[FILE_TAG]
        ]
        for version in same:
            if not _is_whole(client, version, trained):
                continue
            if version.tags.get(RECORD_TAG) == digests[RECORD_TAG]:
                # A process that was killed may have registered it, and not come to this.
                note_version(store, client, version, digests, created=False)
            if alias not in version.aliases:
                client.set_registered_model_alias(name, alias, version.version)
            return as_version(client.get_model_version(name, version.version)), True
        model_id = ensure_model(client, run_id, workspace, trained, anew=bool(same))
        _ensure_registered_model(client, name)
        created = client.create_model_version(
            name,
            # "models:/<id>" would be looked up in MLflow's global store, which may be another.
            source=client.get_logged_model(model_id).artifact_location,
            run_id=run_id,
            tags={**tags, **digests},
            description=description,
            model_id=model_id,
        )
        version = as_version(client.get_model_version(name, created.version))
        # Before it has an alias by which others take it.
        note_version(store, client, version, digests, created=True)
        client.set_registered_model_alias(name, alias, created.version)
        return replace(version, aliases=(*version.aliases, alias)), False


def requirements() -> list[str]:
    """What the model needs, at the versions that it was made with."""
    return [f"{name}=={importlib.metadata.version(name)}" for name in _REQUIREMENTS]


# What a wheel carries for new projects is nothing that a model runs.
_NO_CODE = shutil.ignore_patterns("__pycache__", "project_files")


def _save(folder: Path, workspace: Workspace, trained: Trained, logged: Any) -> None:
    from graftline.data.image_files import largest_px
    from graftline.evaluation.feature_reference import REFERENCE_FILE

    parts = folder / "trained"
    parts.mkdir()
    for name in (LITERT_FILE, Trained.file_name(), REFERENCE_FILE):
        # A model of an earlier Graftline has no reference, and can do without.
        if name != REFERENCE_FILE or (workspace.trained / name).is_file():
            verify(workspace.trained / name)
            shutil.copy2(workspace.trained / name, parts / name)
    seal(parts)
    package = folder / "code" / "graftline"
    source = Path(graftline.__file__).parent
    shutil.copytree(source, package, ignore=_NO_CODE)
    # MLflow warns of its own type hints when it is imported, and then tells what it checks.
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mlflow.pyfunc
        from mlflow.models import Model

        mlflow.pyfunc.save_model(
            path=folder / NAME,
            mlflow_model=Model(
                artifact_path=logged.artifact_location,
                model_uuid=logged.model_id,
                model_id=logged.model_id,
                run_id=logged.source_run_id,
            ),
            python_model=str(package / "registry" / "tracking" / "pyfunc_model.py"),
            artifacts={"trained": str(parts)},
            code_paths=[str(package)],
            signature=_signature(trained.classes),
            input_example=_example(workspace),
            model_config={"max_image_px": largest_px(workspace)},
            pip_requirements=requirements(),
        )
    for cache in (folder / NAME).rglob("__pycache__"):
        shutil.rmtree(cache)


def _signature(classes: Sequence[str]) -> Any:
    import numpy as np
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema, TensorSpec

    from graftline.evaluation.predictions import MOST_WHOLE, further_columns

    many = len(classes) > MOST_WHOLE
    outputs: list[ColSpec | TensorSpec] = []
    for name in ("label", "probability", *further_columns(classes)):
        text = name == "label" or (many and name.startswith("label_"))
        outputs.append(ColSpec(DataType.string if text else DataType.float, name))
    # MLflow passes everything on to such an input: arrays of uint8, and base64, in a table or not.
    # The model itself refuses what is no image.
    images = TensorSpec(np.dtype(object), (-1,))
    return ModelSignature(inputs=Schema([images]), outputs=Schema(outputs))


def _example(workspace: Workspace) -> pd.DataFrame:
    """The first test image in base64, as a request to MLflow's server would hold it."""
    import base64
    import io

    import numpy as np
    import pandas as pd
    from PIL import Image

    from graftline.data.resize import shrink
    from graftline.data.shards import PackedImages

    try:
        images = PackedImages.open(workspace.loaded)
        pixels = shrink(images.image(int(images.indices("test")[0])), _EXAMPLE_PX)
    except MissingOutputError:
        # The model may come from another checkout, without its images.
        pixels = np.zeros((_EXAMPLE_PX, _EXAMPLE_PX, 1), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(file, "PNG")
    return pd.DataFrame({"image": [base64.b64encode(file.getvalue()).decode()]})


def _is_logged(client: MlflowClient, model_id: str, trained: Trained) -> bool:
    from mlflow.exceptions import MlflowException

    try:
        logged = client.get_logged_model(model_id)
    except MlflowException:
        return False
    return logged.status == "READY" and logged.tags.get(DIGEST_TAG) == trained.weight_digest


def _is_whole(client: MlflowClient, version: Version, trained: Trained) -> bool:
    """Whether its files are there with the bytes that they were registered with, and its classes.

    The same weights may name other classes: those of data in which one was renamed.
    """
    from mlflow.artifacts import download_artifacts
    from mlflow.exceptions import MlflowException

    uri = client.get_model_version_download_uri(version.name, version.version)
    with scratch_folder() as folder:
        try:
            place = Path(download_artifacts(artifact_uri=uri, dst_path=str(folder)))
        except (MlflowException, OSError):
            return False
        files = [place / "MLmodel", *place.rglob(LITERT_FILE)]
        if len(files) != 2 or not all(path.is_file() for path in files):
            return False
        parts = files[1].parent
        if not has_files_of(parts, version):
            return False
        return Trained.read(parts / Trained.file_name()).classes == trained.classes


def has_files_of(folder: Path, version: Version) -> bool:
    """Whether a folder holds the model and the record that a version was registered with, whole."""
    model, record = folder / LITERT_FILE, folder / Trained.file_name()
    if not (model.is_file() and record.is_file()):
        return False
    try:
        verify_all(folder)
    except DamagedFileError:
        return False
    record_digest = version.tags.get(RECORD_TAG)
    # Versions of before the record had a digest go by the model's alone.
    return sha256_file(model) == version.tags.get(FILE_TAG) and record_digest in (
        None,
        sha256_file(record),
    )


def _of_weights(client: MlflowClient, name: str, digest: str) -> list[Version]:
    """The versions of the same weights, the newest first."""
    found = client.search_model_versions(
        f"name='{name}' and tags.`{DIGEST_TAG}` = '{digest}'", order_by=["version_number DESC"]
    )
    # The search leaves the aliases out.
    return [as_version(client.get_model_version(name, one.version)) for one in found]


def _ensure_registered_model(client: MlflowClient, name: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(
            name,
            description="Image classifiers grafted onto a pretrained network by Graftline. "
            "The alias `challenger` is the newest, `champion` the one in service.",
        )
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
